//! Every function of the header is called with NULL for everything that can be NULL, and with NULL for all but the handle:
//! the calls are made from the header, so that none is forgotten.

use crate::build::{Link, Program, ROOT, succeed};
use crate::programs::valgrind_of;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A function as the header declares it.
struct Function {
    result: String,
    name: String,
    parameters: Vec<String>,
}

fn functions() -> Vec<Function> {
    let header = fs::read_to_string(Path::new(ROOT).join("include/stockade.h")).unwrap();
    let (_, header) = header.split_once("extern \"C\" {").expect("C++");
    let mut text = String::new();
    for line in header.lines() {
        let code = line.split("//").next().unwrap_or("").trim();
        if !code.starts_with('#') {
            text.push_str(code);
            text.push(' ');
        }
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = text.split(';').filter_map(|declaration| {
        let declaration = words(declaration);
        let (head, parameters) = declaration.split_once('(')?;
        let at = head
            .rfind("stockade_")
            .filter(|_| !head.starts_with("typedef"))?;
        let parameters = parameters.strip_suffix(')')?;
        Some(Function {
            result: head[..at].trim().into(),
            name: head[at..].trim().into(),
            parameters: parameters
                .split(',')
                .map(str::trim)
                .filter(|it| *it != "void")
                .map(String::from)
                .collect(),
        })
    });
    found.collect()
}

impl Function {
    /// Whether it gives one of the statuses.
    fn is_status(&self) -> bool {
        let fails = self
            .parameters
            .last()
            .is_some_and(|it| it.ends_with("**error"));
        self.result == "int"
            && (fails || self.name.contains("_set_") || self.name.contains("_add_"))
    }

    fn call(&self, handle: Option<&str>) -> String {
        let value = |(at, parameter): (usize, &String)| match handle {
            Some(handle) if at == 0 => handle.to_string(),
            _ if parameter.contains('*')
                || parameter.contains("stockade_build_watch")
                || parameter.contains("stockade_progress") =>
            {
                "NULL".into()
            }
            _ => "0".into(),
        };
        let values: Vec<_> = self.parameters.iter().enumerate().map(value).collect();
        format!("{}({})", self.name, values.join(", "))
    }

    /// The kind of handle that it is about.
    fn handle(&self) -> Option<&str> {
        let first = self.parameters.first()?;
        let kind = first
            .trim_start_matches("const ")
            .strip_prefix("stockade_")?;
        let (kind, rest) = kind.split_once(' ')?;
        (rest.starts_with('*') && !rest.starts_with("**")).then_some(kind)
    }
}

fn program() -> String {
    let mut calls = String::new();
    let mut call = |line: String| writeln!(calls, "    {line}").unwrap();
    let all = functions();
    for function in &all {
        let made = function.call(None);
        let nothing = function.parameters.is_empty();
        call(match &*function.result {
            _ if nothing => continue,
            "void" => format!("{made};"),
            "int" if function.is_status() => {
                format!("CHECK({made} == STOCKADE_ERROR_INVALID_ARGUMENT);")
            }
            "int" if function.name == "stockade_enforcement_status" => {
                format!("CHECK({made} == STOCKADE_NOT_ENFORCED);")
            }
            "int" => format!("{{ int r = {made}; CHECK(r == 0 || r == -1); }}"),
            "bool" => format!("CHECK(!{made});"),
            result if result.ends_with('*') => {
                let names = ["_verdict_", "_usage_"]
                    .iter()
                    .any(|it| function.name.contains(it));
                match names && function.handle().is_none() {
                    true => format!("(void){made};"), // of a number
                    false => format!("CHECK({made} == NULL);"),
                }
            }
            _ => format!("CHECK({made} == 0 || {made} + 1 == 0);"),
        });
    }
    // In the order that leaves each handle open for those that come.
    let ends = ["_free", "_close", "_kill"];
    for last in [false, true] {
        for function in &all {
            let Some(kind) = function.handle() else {
                continue;
            };
            let is_last = ends.iter().any(|end| function.name.ends_with(end));
            if is_last == last && !["build", "image", "changes", "stats"].contains(&kind) {
                let made = function.call(Some(kind));
                let cast = if function.result == "void" {
                    ""
                } else {
                    "(void)"
                };
                match function.result.as_str() {
                    "char *" => call(format!("stockade_string_free({made});")),
                    "stockade_spec *" => call(format!("stockade_spec_free({made});")),
                    _ => call(format!("{cast}{made};")),
                }
            }
        }
    }
    assert!(all.len() > 170, "{}", all.len());
    let source = fs::read_to_string(Path::new(ROOT).join("tests/capi/nulls.c")).unwrap();
    source.replace("/* the calls */", &calls)
}

fn built() -> (tempfile::TempDir, Program) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("nulls.c");
    fs::write(&source, program()).unwrap();
    let program = Program::new(source.to_str().unwrap(), Link::Shared);
    (directory, program)
}

#[test]
fn the_header_is_understood() {
    let names: Vec<String> = functions().into_iter().map(|it| it.name).collect();
    for name in include_str!("symbols.txt").lines() {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert_eq!(names.len(), include_str!("symbols.txt").lines().count());
}

#[test]
fn null_is_an_error_and_never_a_crash() {
    let (_directory, program) = built();
    succeed(&mut Command::new(&program.path));
}

#[test]
fn null_under_valgrind() {
    let (_directory, program) = built();
    valgrind_of(&program);
}
