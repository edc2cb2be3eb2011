//! `include/stockade.h`: up to date, short, and clean under strict C and C++ compilers.

use crate::build::{ROOT, cc, succeed};
use std::fs;
use std::path::PathBuf;

/// The sources in the order in which the header shows them.
const SOURCES: [&str; 23] = [
    "stockade",
    "doctor",
    "error",
    "spec",
    "spec/program",
    "spec/place",
    "spec/limits",
    "sandbox",
    "changes",
    "files",
    "process",
    "stats",
    "update",
    "notification",
    "store",
    "commit",
    "build",
    "pull",
    "outcome",
    "outcome/output",
    "outcome/usage",
    "outcome/enforcement",
    "outcome/violation",
];

fn path() -> PathBuf {
    PathBuf::from(ROOT).join("include/stockade.h")
}

fn generate() -> String {
    let root = PathBuf::from(ROOT);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join(format!("src/capi/{source}.rs")));
    }
    let mut header = Vec::new();
    builder
        .generate()
        .expect("the C face is what cbindgen understands")
        .write(&mut header);
    String::from_utf8(header).expect("comments are UTF-8")
}

/// `STOCKADE_BLESS=1` (as `make header` sets it) writes the header instead of comparing it.
#[test]
fn is_generated_from_the_sources() {
    let made = generate();
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        fs::write(path(), &made).unwrap();
    }
    let committed = fs::read_to_string(path()).unwrap_or_default();
    assert!(
        made == committed,
        "include/stockade.h is not what src/capi says: run `make header`"
    );
}

#[test]
fn every_function_is_in_it() {
    let mut entries = Vec::new();
    let mut directories = vec![PathBuf::from(ROOT).join("src/capi")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines() {
                if let Some((_, name)) = line.split_once("extern \"C\" fn ") {
                    entries.push(name.split('(').next().unwrap().to_string());
                }
            }
        }
    }
    let header = generate();
    assert!(entries.len() > 80, "found only {} functions", entries.len());
    for name in entries {
        let declared = header.lines().filter(|l| {
            !l.starts_with(' ') && !l.starts_with("//") && l.contains(&format!("{name}("))
        });
        assert_eq!(declared.count(), 1, "{name} stands once in the header");
    }
}

#[test]
fn has_the_version_of_the_package() {
    let header = fs::read_to_string(path()).unwrap();
    assert!(header.contains(&format!(
        "#define STOCKADE_VERSION \"{}\"\n",
        env!("CARGO_PKG_VERSION")
    )));
}

#[test]
fn can_be_read_in_one_sitting() {
    let lines = fs::read_to_string(path()).unwrap().lines().count();
    assert!(lines < 1300, "{lines} lines");
}

/// Included twice in one file and by two files of one program, in each language and standard it claims.
#[test]
fn compiles_everywhere() {
    let scratch = tempfile::tempdir().unwrap();
    let include = PathBuf::from(ROOT).join("include");
    for (compiler, language, standard) in [
        ("gcc", "c", "c99"),
        ("gcc", "c", "c11"),
        ("g++", "c++", "c++11"),
        ("g++", "c++", "c++20"),
    ] {
        for name in ["twice_a.c", "twice_b.c"] {
            let mut command = cc(compiler);
            command.args(["-x", language, &format!("-std={standard}"), "-c", "-o"]);
            command.arg(scratch.path().join(format!("{name}.{standard}.o")));
            command.arg("-I").arg(&include);
            command.arg(PathBuf::from(ROOT).join("tests/capi").join(name));
            succeed(&mut command);
        }
        let mut command = cc(compiler);
        command
            .args(["-r", "-nostdlib", "-o"])
            .arg(scratch.path().join(format!("{standard}.o")));
        command.args(
            ["twice_a.c", "twice_b.c"].map(|n| scratch.path().join(format!("{n}.{standard}.o"))),
        );
        succeed(&mut command);
    }
}
