//! `stockade doctor`.

use super::{FAILED, fail, help, say};
use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;
use stockade::{Check, CheckStatus};

/// The whole command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut json = false;
    for arg in args {
        match arg.to_str() {
            Some("--json") => json = true,
            Some("--help" | "-h") => return help::of("doctor"),
            _ => {
                return fail(format_args!(
                    "doctor: unknown argument `{}`; see `stockade help doctor`",
                    arg.display()
                ));
            }
        }
    }
    let checks = stockade::doctor();
    let text = match json {
        true => match serde_json::to_string_pretty(&checks) {
            Ok(text) => text + "\n",
            Err(error) => return fail(error),
        },
        false => table(&checks),
    };
    let printed = say(text);
    let usable = checks.iter().all(|c| c.status != CheckStatus::Missing);
    match usable || printed == FAILED.into() {
        true => printed,
        false => ExitCode::FAILURE,
    }
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let status = match check.status {
            CheckStatus::Ok => "ok",
            CheckStatus::Degraded => "degraded",
            CheckStatus::Missing => "MISSING",
        };
        let _ = writeln!(text, "{status:8}  {:width$}  {}", check.name, check.detail);
        for (number, line) in check.fix.iter().flat_map(|fix| fix.lines()).enumerate() {
            // A fix of several lines starts on a line of its own, so that it can be copied whole.
            let many = check.fix.as_ref().is_some_and(|fix| fix.contains('\n'));
            let _ = match (many, number) {
                (false, _) => writeln!(text, "{:8}  fix: {line}", ""),
                (true, 0) => writeln!(text, "{:8}  fix:\n{line}", ""),
                (true, _) => writeln!(text, "{line}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixes_can_be_copied() {
        let check = |fix: &str| Check {
            name: "proc".into(),
            status: CheckStatus::Missing,
            detail: "masked".into(),
            fix: Some(fix.into()),
        };
        let text = table(&[check("one"), check("two\nlines")]);
        assert_eq!(
            text,
            "MISSING   proc  masked\n          fix: one\nMISSING   proc  masked\n          fix:\ntwo\nlines\n"
        );
    }
}
