//! Who is told what.

use super::server::{Reply, Seen, Server};
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn basic(user: &str) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "{user}:{SECRET}").unwrap();
    let text = child.wait_with_output().unwrap().stdout;
    format!("Basic {}", String::from_utf8(text).unwrap())
}

/// Asks for a token, which its own `/token` gives; `realm` is where else.
fn with_tokens(
    realm: Option<String>,
    good: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> impl Fn(&Server, &Seen) -> Option<Reply> + Send + Sync {
    let (given, expected) = (AtomicUsize::new(0), basic("me"));
    move |server, seen| {
        if seen.path == "/token" {
            let known = seen.header("authorization") == Some(&expected)
                || seen.body.contains(&format!("refresh_token={SECRET}"));
            let scope = "scope=repository:x/y:pull&x=1";
            let asks = seen.query.contains("service=a%20registry")
                && seen.query.contains("scope=repository:x/y:pull");
            let posts = seen.body.contains("grant_type=refresh_token")
                && seen.body.contains("scope=repository");
            return Some(match known && (asks || posts) {
                true => {
                    let n = given.fetch_add(1, Ordering::Relaxed);
                    Reply::new(
                        200,
                        format!(r#"{{"token": "token-{n}", "expires_in": 60, "{scope}": 0}}"#),
                    )
                }
                false => Reply::new(401, SECRET),
            });
        }
        let now = given.load(Ordering::Relaxed);
        let has =
            now > 0 && seen.header("authorization") == Some(&*format!("Bearer token-{}", now - 1));
        if has && good(now) {
            return None;
        }
        let realm = realm
            .clone()
            .unwrap_or_else(|| format!("http://{}/token", server.address()));
        let challenge =
            format!(r#"Bearer realm="{realm}",service="a registry",scope="repository:x/y:pull""#);
        Some(Reply::new(401, SECRET).header("Www-Authenticate", challenge))
    }
}

#[test]
fn a_token_is_got_once() {
    let place = Place::in_memory();
    let repository = random_image(&place, 4, 10_000);
    let tokens = |server: &Server| {
        server
            .seen()
            .iter()
            .filter(|seen| seen.path == "/token")
            .count()
    };
    let server = Server::start(repository.clone(), with_tokens(None, |_| true));
    let store = place.store("store");
    assert_fails(
        pull(&store, &server.image(), options()),
        ErrorKind::Registry,
        "auth",
    );
    let wrong = options().credentials("me", "wrong");
    assert_fails(
        pull(&store, &server.image(), wrong),
        ErrorKind::Registry,
        "auth",
    );
    let before = tokens(&server);
    pull(&store, &server.image(), options().credentials("me", SECRET)).unwrap();
    assert_eq!(
        tokens(&server) - before,
        1,
        "for the manifest, the configuration and four layers"
    );
    for seen in server.seen().iter().filter(|seen| seen.path != "/token") {
        let sent = seen.header("authorization").unwrap_or("Bearer");
        assert!(
            sent.starts_with("Bearer"),
            "the password goes for the token only: {seen:?}"
        );
    }
    assert_whole(&store, 1);

    let server = Server::start(repository, with_tokens(None, |_| true));
    let store = place.store("by-identity");
    pull(&store, &server.image(), options().identity_token(SECRET)).unwrap();
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.path == "/token" && seen.method == "POST")
    );
    assert_whole(&store, 1);
}

#[test]
fn a_token_that_has_become_old_is_replaced() {
    let place = Place::in_memory();
    let repository = random_image(&place, 4, 10_000);
    let asked = Arc::new(AtomicUsize::new(0));
    // The first is good for two requests.
    let count = asked.clone();
    let good = move |given| given > 1 || count.fetch_add(1, Ordering::Relaxed) < 2;
    let server = Server::start(repository, with_tokens(None, good));
    let store = place.store("store");
    pull(&store, &server.image(), options().credentials("me", SECRET)).unwrap();
    let tokens = server
        .seen()
        .iter()
        .filter(|seen| seen.path == "/token")
        .count();
    assert_eq!(tokens, 2, "all threads take the same new one");
    assert_whole(&store, 1);
}

#[test]
fn tokens_come_by_https_or_not_at_all() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 1000);
    let store = place.store("store");
    for realm in [
        "http://tokens.example/token",
        "ftp://127.0.0.1/",
        "https://me:x@127.0.0.1/",
        "nowhere",
        "http://10.0.0.1/",
    ] {
        let server = Server::start(
            repository.clone(),
            with_tokens(Some(realm.into()), |_| true),
        );
        let began = std::time::Instant::now();
        let given = options().credentials("me", SECRET);
        assert_fails(
            pull(&store, &server.image(), given),
            ErrorKind::Registry,
            "auth",
        );
        assert!(
            began.elapsed() < Duration::from_secs(5) * crate::support::slowness(),
            "nobody is asked: {realm}"
        );
    }
}

/// The registry sends layers' requests to another host, as those of the clouds do.
#[test]
fn credentials_stay_where_they_belong() {
    let place = Place::in_memory();
    let repository = random_image(&place, 3, 10_000);
    let storage = Server::start(repository.clone(), |_, _| None);
    for token in [false, true] {
        let tokens = with_tokens(None, |_| true);
        let expected = basic("me");
        let to = storage.address().to_string();
        let own = move |server: &Server, seen: &Seen| {
            if token {
                if let Some(reply) = tokens(server, seen) {
                    return Some(reply);
                }
            } else if seen.header("authorization") != Some(&expected) {
                return Some(Reply::new(401, "").header("WWW-Authenticate", r#"Basic realm="x""#));
            }
            let location = format!("http://{to}{}", seen.path);
            seen.blob()
                .map(|_| Reply::new(307, "").header("Location", location))
        };
        let server = Server::start(repository.clone(), own);
        let before = storage.seen().len();
        let store = place.store(&format!("store-{token}"));
        pull(&store, &server.image(), options().credentials("me", SECRET)).unwrap();
        let seen = storage.seen().split_off(before);
        assert_eq!(seen.len(), 4, "the configuration and three layers");
        for seen in seen {
            assert_eq!(seen.header("authorization"), None, "{seen:?}");
            assert!(!format!("{seen:?}").contains(SECRET));
        }
        assert_whole(&store, 1);
    }
    // A mirror gets none of the registry's.
    let nosy = Server::start(repository, |_, seen| {
        let asks = Reply::new(401, "").header("WWW-Authenticate", r#"Basic realm="x""#);
        (!seen.path.contains("nothing")).then_some(asks)
    });
    let store = place.store("store");
    let given = options().credentials("me", SECRET).mirror(nosy.address());
    assert_fails(
        pull(&store, "127.0.0.1:1/x/y", given),
        ErrorKind::Registry,
        "connect",
    );
    assert!(
        !nosy.seen().is_empty()
            && nosy
                .seen()
                .iter()
                .all(|seen| seen.header("authorization").is_none())
    );
}

#[test]
fn redirects_end() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 1000);
    let store = place.store("store");
    for location in [
        "/v2/x/y/manifests/1",
        "ftp://127.0.0.1/",
        "",
        "http://me:x@127.0.0.1/",
        "http://[::1",
    ] {
        let server = Server::start(repository.clone(), move |_, _| {
            Some(Reply::new(302, "").header("Location", location))
        });
        let error = pull(&store, &server.image(), options()).unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::Registry, "redirect"),
            "{location}: {error}"
        );
        assert!(server.seen().len() <= 11);
    }
}

/// What the registry says of the reason is told if it is one of the specification's words, and nothing else of it.
#[test]
fn refusals() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 1000);
    let store = place.store("store");
    for (status, body, kind, step, word) in [
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"s3cret-of-the-tests"}]}"#,
            ErrorKind::Registry,
            "auth",
            "DENIED",
        ),
        (
            404,
            r#"{"errors":[{"code":"s3cret-of-the-tests"}]}"#,
            ErrorKind::NotFound,
            "",
            "no such image",
        ),
        (
            418,
            "s3cret-of-the-tests",
            ErrorKind::Registry,
            "http",
            "418",
        ),
        (429, "", ErrorKind::Registry, "http", "left alone"),
        (500, "", ErrorKind::Registry, "http", "500"),
    ] {
        let server = Server::start(repository.clone(), move |_, _| {
            Some(Reply::new(status, body))
        });
        let given = options().credentials("me", SECRET).retry(1);
        let why = assert_fails(pull(&store, &server.image(), given), kind, step);
        assert!(why.contains(word), "{why}");
        let tries = if status == 429 || status == 500 { 2 } else { 1 };
        assert_eq!(server.seen().len(), tries, "{status}");
    }
}
