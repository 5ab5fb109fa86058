//! Keys that are set by the environment.

use std::env;
use std::fmt;

/// What the environment sets: `BLVM_STRATUM_V2__TABLE__KEY=value`.
#[derive(Clone, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Clone)]
struct Override {
    variable: String,
    /// The table, the number if it is one of several, and the key.
    parts: Vec<String>,
    /// May be secret.
    value: String,
}

impl Overrides {
    /// How the variables begin.
    pub const PREFIX: &str = "BLVM_STRATUM_V2__";

    /// What this process is told.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        Self::new(env::vars_os().map(text))
    }

    /// Those of `variables` that are meant for this program.
    pub fn new(variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let of = |(variable, value): (_, _)| {
            let (variable, value): (String, String) = (variable, value);
            let name = variable.strip_prefix(Self::PREFIX)?.to_lowercase();
            let parts = name.split("__").map(str::to_owned).collect();
            Some(Override { variable, parts, value })
        };
        let variables = variables.into_iter().map(|(variable, value)| (variable.into(), value.into()));
        let mut found = variables.filter_map(of).collect::<Vec<_>>();
        // the second of several tables comes after the first, and before the tenth
        let number = |one: &Override| one.parts.iter().find_map(|part| part.parse::<usize>().ok());
        found.sort_by(|a, b| (number(a), &a.variable).cmp(&(number(b), &b.variable)));
        Self(found)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The variables that there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|one| &*one.variable)
    }

    /// The variable, what it names, and the value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[String], &str)> {
        self.0.iter().map(|one| (&*one.variable, &*one.parts, &*one.value))
    }
}

/// Without the values, which may be secret.
impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_and_no_value_is_shown() {
        let overrides = Overrides::new([
            ("BLVM_STRATUM_V2_EXECUTED", "1"),
            ("BLVM_STRATUM_V2__BLVM__RPC_PASSWORD", "hunter2"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(format!("{overrides:?}"), "[\"BLVM_STRATUM_V2__BLVM__RPC_PASSWORD\"]");
        let read = overrides.iter().collect::<Vec<_>>();
        assert_eq!(read[0].1, ["blvm", "rpc_password"]);
        assert_eq!((read.len(), read[0].2), (1, "hunter2"));
    }
}
