//! The command line, and what of its environment the library reads.

use super::server::Server;
use super::*;
use crate::images::command;
use crate::support::skip;
use std::process::{Output, Stdio};

/// The command, with an environment of only this.
fn stockade(place: &Place, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut stockade = command().unwrap();
    stockade
        .args(args)
        .env_clear()
        .env("HOME", place.at("home"));
    stockade.envs(environment.iter().copied());
    stockade.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_run_pulls_when_it_is_told_to() {
    if command().is_none() {
        skip!("the program `stockade` is not here");
    }
    let place = Place::in_memory();
    let server = Server::start(random_image(&place, 1, 1000), |_, _| None);
    let path = place.at("store").display().to_string();
    let image = server.image();
    // Whether the program can be found or even started is not the question here.
    let run = |policy: &[&str]| {
        let args = [
            &["run", "--store", &path],
            policy,
            &["--image", &image, "--", "/0"],
        ]
        .concat();
        let output = stockade(&place, &args, &[]);
        (
            server.seen().len(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for never in [&[][..], &["--pull", "never"]] {
        let (asked, why) = run(never);
        assert_eq!(asked, 0);
        assert!(why.contains("no image"), "{why}");
    }
    let (asked, why) = run(&["--pull", "missing"]);
    assert_eq!(asked, 3, "{why}");
    let store = Store::open(Some(path.as_ref())).unwrap();
    assert_whole(&store, 1);
    assert_eq!(run(&["--pull", "missing"]).0, 3, "it is here");
    assert_eq!(run(&["--pull", "never"]).0, 3);
    assert_eq!(
        run(&["--pull", "always"]).0,
        4,
        "only the manifest is looked at"
    );
    assert!(
        run(&["--pull", "often"])
            .1
            .contains("always, missing, never")
    );
}

#[test]
fn a_proxy_is_gone_through() {
    if command().is_none() {
        skip!("the program `stockade` is not here");
    }
    let place = Place::in_memory();
    let server = Server::start(random_image(&place, 2, 1000), |_, _| None);
    let proxy = format!("http://me:{SECRET}@{}", server.address());
    let store = place.at("store").display().to_string();
    let args = [
        "pull",
        "--store",
        &store,
        "--tls-verify=false",
        "registry.example/x/y:1",
    ];
    // Nobody looks its address up.
    let output = stockade(
        &place,
        &args,
        &[("HTTPS_PROXY", &proxy), ("http_proxy", &proxy)],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let connects = server.seen();
    let connects: Vec<_> = connects
        .iter()
        .filter(|seen| seen.method == "CONNECT")
        .collect();
    assert_eq!(connects[0].path, "registry.example:443");
    assert!(
        connects[1..]
            .iter()
            .all(|seen| seen.path == "registry.example:80")
    );
    assert!(
        connects
            .iter()
            .all(|seen| seen.header("proxy-authorization").is_some())
    );
    let others = server.seen();
    let mut others = others.iter().filter(|seen| seen.method != "CONNECT");
    assert!(others.all(|seen| seen.header("proxy-authorization").is_none()));
    assert_whole(&Store::open(Some(store.as_ref())).unwrap(), 1);

    let before = server.seen().len();
    for environment in [
        [
            ("HTTPS_PROXY", &*proxy),
            ("NO_PROXY", "other.invalid,.invalid"),
        ],
        [("ALL_PROXY", "socks5://127.0.0.1:1"), ("X", "y")],
        [("HTTPS_PROXY", "http://127.0.0.1:1"), ("X", "y")],
    ] {
        let args = ["pull", "--store", &store, "registry.invalid/x/y:1"];
        let output = stockade(&place, &args, &environment);
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !why.contains(SECRET), "{why}");
        let is = ["not found", "speaks HTTP", "refused"];
        assert!(is.iter().any(|is| why.contains(is)), "{why}");
    }
    assert_eq!(server.seen().len(), before);
}
