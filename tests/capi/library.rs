//! The built libraries: what they export, what they are called, what they need; installing and removing them.

use crate::build::{Link, Program, ROOT, libraries, make, pkg_config, stage, succeed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn shared() -> PathBuf {
    libraries().join("libstockade.so")
}

/// `STOCKADE_BLESS=1` writes the list instead of comparing it. A line that goes needs a new SONAME: docs/abi.md.
#[test]
fn exports_the_golden_list_and_nothing_else() {
    let lines = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only", "--format=just-symbols"])
            .arg(shared()),
    );
    let mut symbols: Vec<&str> = lines.lines().collect();
    symbols.sort_unstable();
    let list = symbols.join("\n") + "\n";
    let golden = Path::new(ROOT).join("tests/capi/symbols.txt");
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        fs::write(&golden, &list).unwrap();
    }
    assert_eq!(list, fs::read_to_string(golden).unwrap());
    assert!(symbols.iter().all(|name| name.starts_with("stockade_")));
}

#[test]
fn the_header_declares_what_is_exported() {
    let header = fs::read_to_string(stage().join("usr/local/include/stockade.h")).unwrap();
    for name in include_str!("symbols.txt").lines() {
        assert!(header.contains(&format!("{name}(")), "{name}");
    }
}

#[test]
fn has_a_soname_and_stays_loaded() {
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(shared()));
    assert!(
        dynamic.contains("Library soname: [libstockade.so.0]"),
        "{dynamic}"
    );
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .filter(|name| !name.starts_with("ld-linux"))
        .collect();
    assert_eq!(needed, ["libgcc_s.so.1", "libc.so.6"]);
}

#[test]
fn pkg_config_names_what_a_static_link_needs() {
    let words = pkg_config(&["--libs", "--static"]);
    let libraries: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| word.starts_with("-l"))
        .collect();
    assert_eq!(
        libraries,
        [
            "-lstockade",
            "-lgcc_s",
            "-lutil",
            "-lrt",
            "-lpthread",
            "-lm",
            "-ldl",
            "-lc"
        ]
    );
    assert_eq!(pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
}

#[test]
fn a_static_program_needs_no_library() {
    let program = Program::new("tests/capi/run.c", Link::Static);
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(&program.path));
    assert!(!dynamic.contains("libstockade"), "{dynamic}");
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn is_installed_where_it_is_told_and_removed_from_there() {
    if std::env::var_os("STOCKADE_C_STAGE").is_some() {
        // Somebody else has built it, who may run `make`; what was installed is then looked at.
        let wanted = ["libstockade.so.0", "libstockade.a", "pkgconfig/stockade.pc"];
        assert!(wanted.iter().all(|name| libraries().join(name).exists()));
        return;
    }
    stage();
    let directory = tempfile::tempdir().unwrap();
    let destination = format!("DESTDIR={}", directory.path().display());
    let places = ["PREFIX=/opt/x", "LIBDIR=/opt/x/lib64"];
    make(&[&["install", &destination], &places[..]].concat());
    let version = env!("CARGO_PKG_VERSION");
    let mut installed: Vec<String> = files(directory.path())
        .iter()
        .map(|path| {
            path.strip_prefix(directory.path())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    installed.sort();
    let mut expected = [
        "opt/x/include/stockade.h".to_string(),
        "opt/x/lib64/libstockade.a".to_string(),
        "opt/x/lib64/libstockade.so".to_string(),
        "opt/x/lib64/libstockade.so.0".to_string(),
        format!("opt/x/lib64/libstockade.so.{version}"),
        "opt/x/lib64/pkgconfig/stockade.pc".to_string(),
        "opt/x/libexec/stockade-init".to_string(),
        "opt/x/share/stockade/apparmor/stockade".to_string(),
        "opt/x/share/stockade/apparmor/stockade-program".to_string(),
    ];
    expected.sort();
    assert_eq!(installed, expected);
    let text =
        fs::read_to_string(directory.path().join("opt/x/lib64/pkgconfig/stockade.pc")).unwrap();
    assert!(
        text.contains("libdir=/opt/x/lib64\n") && !text.contains('@'),
        "{text}"
    );
    make(&[&["uninstall", &destination], &places[..]].concat());
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}
