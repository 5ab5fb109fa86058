//! `man` and `completions`: what a package ships beside the binary, made from what the binary takes.

use std::error::Error;
use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// What no argument tells.
const REST: &str = "\
.SH SIGNALS
.TP
SIGTERM, SIGINT
Take no more miners, acknowledge what is owed, end all connections, and leave, within some ten seconds. A second
signal leaves at once, with exit code 1.
.TP
SIGHUP
Read the configuration and the certificates again. The log has what was taken and what needs a restart; the command
.B reload
does the same and prints it.
.SH FILES
.TP
.I config.toml
The configuration, in the current directory if
.B \\-\\-config
names no other.
.TP
.I certs/
The authority key, by which miners know the server, its TLS certificate and the secret that outlasts a restart.
.TP
.I data/
Blocks until a node has taken them, the count of starts, and the lock that keeps a second server away.
";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

/// One page for all commands.
pub(super) fn man() -> Result<(), Box<dyn Error>> {
    let mut page = Vec::new();
    let command = Cli::command().disable_help_subcommand(true);
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands() {
        describe(&command, subcommand, &mut page)?;
    }
    page.extend_from_slice(REST.as_bytes());
    print(&page)
}

/// A part of the page, under its own heading.
fn describe(whole: &Command, part: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("{} {}", whole.get_name(), part.get_name());
    writeln!(page, ".SS \"{name}\"")?;
    let man = Man::new(part.clone().bin_name(name).disable_help_flag(true));
    let mut sections = Vec::new();
    man.render_description_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    man.render_options_section(&mut sections)?;
    for line in String::from_utf8_lossy(&sections).lines() {
        // each is a page's section, and here a paragraph
        writeln!(page, "{}", if line.starts_with(".SH ") { ".PP" } else { line })?;
    }
    Ok(())
}

pub(super) fn completions(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&script)
}

fn print(text: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}
