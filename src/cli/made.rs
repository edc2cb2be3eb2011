//! `stockade export`, `diff` and `commit`: what images are made of, and images of images.

use super::images::{Bar, Flags, print, print_json};
use std::fs::File;
use std::io::{IsTerminal, Write};
use stockade::Change;
use stockade::image::{Build, Config, Progress};

pub fn export(flags: &Flags) -> Result<(), String> {
    let [image] = flags.rest.as_slice() else {
        return Err("give one image".into());
    };
    let store = flags.open()?;
    // Before the file is emptied that may be there.
    let _held = store.resolve(image).map_err(|e| e.to_string())?;
    let mut stdout = std::io::stdout();
    let mut file;
    let to: &mut dyn Write = match &flags.output {
        Some(path) if path.as_os_str() != "-" => {
            file = File::create(path).map_err(|e| format!("`{}`: {e}", path.display()))?;
            &mut file
        }
        _ if stdout.is_terminal() => {
            return Err("give a file with -o, or redirect standard output".into());
        }
        _ => &mut stdout,
    };
    let mut bar = Bar::new(flags.quiet);
    let mut watch = |progress: &Progress| bar.show(progress);
    let exported = store.export(image, to, Some(&mut watch));
    bar.clear();
    exported.map_err(|e| e.to_string())
}

pub fn diff(flags: &Flags) -> Result<(), String> {
    let store = flags.open()?;
    let changes = match flags.rest.as_slice() {
        [image] => store.diff(image, None),
        [base, image] => store.diff(image, Some(base)),
        _ => return Err("give an image, or two".into()),
    };
    let changes = changes.map_err(|e| e.to_string())?;
    if flags.json {
        return print_json(&changes);
    }
    print(lines(&changes))
}

/// A line for each. A program, or who made an image, may have given files any name: none makes a line of its own, or tells
/// a terminal what to do.
pub fn lines(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        text.extend([change.kind.letter(), ' ']);
        for c in change.path.to_text().chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        text.push('\n');
    }
    text
}

pub fn commit(flags: &Flags) -> Result<(), String> {
    let [image, name] = flags.rest.as_slice() else {
        return Err(
            "give an image and the name of the new one; what a program changes is committed by \
                    `stockade run --image IMAGE --commit NAME`"
                .into(),
        );
    };
    let mut build = Build::from(image);
    for change in &flags.changes {
        // Only what changes the configuration.
        Config::default()
            .change(change)
            .map_err(|e| e.to_string())?;
        build = build.instruction(change).map_err(|e| e.to_string())?;
    }
    let made = build.build(&flags.open()?, &[name]);
    let made = made.map_err(|e| e.to_string())?;
    print(format_args!("{}\n", made.id))
}
