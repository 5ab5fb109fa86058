//! The example file, line by line, and files made of it.

use std::fs;
use std::path::{Path, PathBuf};

use blvm_stratum_v2::config::{Config, ConfigError, Overrides};
use tempfile::TempDir;

/// What the example says of secrets in files.
const SECRET_FILE: &str = "/run/secrets/node-password";

/// A directory with a configuration, and with a password in a file.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("password"), "correct horse\n").unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// Writes `text`; where the example has a secret's file, there is one.
    pub(crate) fn write(&self, text: &str) -> PathBuf {
        let secret = self.path().join("password");
        fs::write(self.file(), text.replace(SECRET_FILE, secret.to_str().unwrap())).unwrap();
        self.file()
    }

    pub(crate) fn load(&self, text: &str) -> Result<Config, ConfigError> {
        Config::load(Some(&self.write(text)), &Overrides::default())
    }

    /// What is said to be wrong with `text`, without the path of the file.
    pub(crate) fn wrong(&self, text: &str) -> String {
        let error = self.load(text).and_then(|config| config.options().map(drop)).unwrap_err();
        error.to_string().replace(self.path().to_str().unwrap(), "")
    }

    /// A text of the example as the environment has it.
    pub(crate) fn value(&self, key: &Key) -> String {
        let secret = self.path().join("password");
        key.other().trim_matches('"').replace(SECRET_FILE, secret.to_str().unwrap())
    }
}

/// A key of the example file.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Counted from 1.
    pub(crate) line: usize,
    /// `stratum_v2`, or `tls.certificate`.
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) value: String,
    /// Whether it is commented out.
    pub(crate) off: bool,
    repeats: bool,
}

pub(crate) fn example() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config.toml")).unwrap()
}

/// All keys of the example file, in order.
pub(crate) fn keys() -> Vec<Key> {
    let (mut table, mut repeats) = (String::new(), false);
    let mut keys = Vec::new();
    for (number, line) in example().lines().enumerate() {
        if line.is_empty() || line == "#" || line.starts_with("# ") {
            continue;
        }
        let (off, said) = match line.strip_prefix('#') {
            Some(said) => (true, said),
            None => (false, line),
        };
        if said.starts_with('[') {
            repeats = said.starts_with("[[");
            table = said.trim_matches(['[', ']']).to_owned();
            continue;
        }
        let (name, value) = said.split_once(" = ").unwrap_or_else(|| panic!("line {}: {line}", number + 1));
        let (table, name, value) = (table.clone(), name.to_owned(), value.to_owned());
        keys.push(Key { line: number + 1, table, name, value, off, repeats });
    }
    keys
}

impl Key {
    /// `table.key`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// `table.key`, with the number of the first of several tables.
    pub(crate) fn shown(&self) -> String {
        let number = if self.repeats { "[1]" } else { "" };
        format!("{}{number}.{}", self.table, self.name)
    }

    pub(crate) fn header(&self) -> String {
        if self.repeats { format!("[[{}]]", self.table) } else { format!("[{}]", self.table) }
    }

    /// A file with nothing but this key, on its second line.
    pub(crate) fn alone(&self, name: &str, value: &str) -> String {
        format!("{}\n{name} = {value}\n", self.header())
    }

    /// The example with this key, and the header that it takes, in force: with another name and value.
    pub(crate) fn in_example(&self, name: &str, value: &str) -> String {
        let header = format!("#{}", self.header());
        let text = example();
        let lines = text.lines().enumerate().map(|(number, line)| match line {
            _ if number + 1 == self.line => format!("{name} = {value}"),
            line if line == header => self.header(),
            line => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A value that fits, and is not the default.
    pub(crate) fn other(&self) -> String {
        match &*self.value {
            example if self.off => example.to_owned(),
            "true" => "false".to_owned(),
            "false" => "true".to_owned(),
            "[]" => "[\"pool.example\", \"192.0.2.1\"]".to_owned(),
            "\"0.0.0.0:3333\"" => "\"[::1]:4444\"".to_owned(),
            "\"info\"" => "\"debug\"".to_owned(),
            number if number.parse::<u64>().is_ok() => (number.parse::<u64>().unwrap() + 1).to_string(),
            number if number.parse::<f64>().is_ok() => (number.parse::<f64>().unwrap() + 1.5).to_string(),
            text => text.replacen('"', "\"other-", 1),
        }
    }

    /// The variable that sets it: its parts after the prefix.
    pub(crate) fn parts(&self) -> Vec<String> {
        let number = self.repeats.then(|| "1".to_owned());
        let table = self.table.split('.').map(str::to_owned);
        table.chain(number).chain([self.name.clone()]).map(|part| part.to_uppercase()).collect()
    }
}

/// Each way to mistype a name by one letter that leaves no name that there is.
pub(crate) fn misspelt(name: &str) -> Vec<String> {
    let letters = name.chars().collect::<Vec<_>>();
    let mut all = Vec::new();
    for at in 0..letters.len() {
        let (mut dropped, mut doubled, mut swapped) = (letters.clone(), letters.clone(), letters.clone());
        dropped.remove(at);
        doubled.insert(at, letters[at]);
        if at + 1 < letters.len() {
            swapped.swap(at, at + 1);
        }
        all.extend([dropped, doubled, swapped].map(|letters| letters.into_iter().collect::<String>()));
    }
    all.retain(|one| one != name);
    all
}
