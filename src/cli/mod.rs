//! `stockade run`, `stockade build`, `stockade doctor`, the commands about images, `stockade help`: from arguments to an exit status.

mod build;
mod doctor;
mod flags;
mod help;
mod help_made;
mod images;
mod left;
mod made;
mod pull;
mod pump;
mod report;
mod run;
mod signals;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Docker's exit status for "the tool itself failed": nothing is said about the program.
const FAILED: u8 = 125;

/// The whole command line.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(command) = args.next() else {
        eprint!("{}", help::OVERVIEW);
        return FAILED.into();
    };
    let rest: Vec<OsString> = args.collect();
    match command.to_str() {
        Some("run") => run::main(rest),
        Some("build") => build::main(rest),
        Some("doctor") => doctor::main(rest),
        Some("pull") => pull::main(rest),
        Some("help" | "--help" | "-h") => help::main(rest),
        Some("version" | "--version" | "-V") => {
            say(format_args!("stockade {}\n", env!("CARGO_PKG_VERSION")))
        }
        name => name
            .and_then(|name| images::main(name, rest))
            .unwrap_or_else(|| {
                fail(format_args!(
                    "unknown command `{}`; see `stockade help`",
                    command.display()
                ))
            }),
    }
}

/// Prints to standard output. A reader that has gone away is no failure of ours; a full disk is.
fn say(text: impl Display) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("standard output: {error}")),
    }
}

/// Prints one line to standard error, and goes on if that is closed.
fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "stockade: {text}");
}

/// Says why stockade itself failed.
fn fail(text: impl Display) -> ExitCode {
    note(text);
    FAILED.into()
}
