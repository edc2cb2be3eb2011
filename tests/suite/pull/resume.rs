//! Downloads that break off and go on.

use super::server::{Cut, Reply, Seen, Server};
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const SIZE: usize = 3_000_000;

/// Breaks layers off in this way so many times, after so much of what is left.
fn breaking(times: usize, how: Cut) -> impl Fn(&Server, &Seen) -> Option<Reply> + Send + Sync {
    let count = AtomicUsize::new(0);
    move |server, seen| {
        let layer = &server.repository().layers[0];
        let breaks = seen.blob() == Some(layer) && count.fetch_add(1, Ordering::Relaxed) < times;
        breaks.then(|| {
            let reply = server.honest(seen);
            let after = reply.body.len() / 2;
            reply.cut(after, how)
        })
    }
}

#[test]
fn a_broken_download_goes_on_where_it_was() {
    let place = Place::in_memory();
    let repository = random_image(&place, 2, SIZE);
    let whole: usize = repository.blobs.values().map(Vec::len).sum();
    for how in [Cut::Close, Cut::Stall] {
        let server = Server::start(repository.clone(), breaking(2, how));
        let store = place.store(&format!("store{}", how == Cut::Close));
        let options = options().timeout(Duration::from_millis(500));
        pull(&store, &server.image(), options).unwrap();
        let first = &server.repository().layers[0];
        let from: Vec<usize> = server
            .layers_asked()
            .iter()
            .filter(|seen| seen.blob() == Some(first))
            .map(Seen::from)
            .collect();
        assert_eq!(from.len(), 3);
        assert!(
            from[0] == 0 && from[1] > SIZE / 3 && from[2] > SIZE / 2,
            "{from:?}"
        );
        assert!(
            server.sent() <= whole,
            "nothing is sent twice: {} of {whole}",
            server.sent()
        );
        assert_whole(&store, 1);
        assert_eq!(partial(&store), []);
    }
}

#[test]
fn servers_without_a_notion_of_parts() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, SIZE);
    type Lie = fn(&Server, &Seen) -> Reply;
    let lies: [(&str, Lie); 3] = [
        ("all of it again", |server, seen| {
            let mut seen = seen.clone();
            seen.headers.remove("range");
            server.honest(&seen)
        }),
        ("another part", |server, seen| {
            let mut reply = server.honest(seen);
            reply.headers[0].1 = "bytes 0-9/10".into();
            reply
        }),
        ("no such part", |_, _| Reply::new(416, "")),
    ];
    for (what, lie) in lies {
        let breaks = breaking(1, Cut::Close);
        let server = Server::start(repository.clone(), move |server, seen| match seen.from() {
            0 => breaks(server, seen),
            _ => Some(lie(server, seen)),
        });
        let store = place.store(what);
        pull(&store, &server.image(), options()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_whole(&store, 1);
    }
    // One that always breaks off at the same place comes to an end, however large that part is.
    let server = Server::start(repository, |server, seen| {
        let mut seen = seen.clone();
        seen.headers.remove("range");
        seen.blob()
            .filter(|blob| *blob == server.repository().layers[0])?;
        Some(server.honest(&seen).cut(SIZE / 2, Cut::Close))
    });
    let store = place.store("never");
    let error = pull(&store, &server.image(), options().retry(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
    let tries = server.layers_asked().len();
    assert!((3..=6).contains(&tries), "{tries} tries");
}

#[test]
fn another_call_goes_on_with_what_one_has_left() {
    let place = Place::in_memory();
    let repository = random_image(&place, 2, SIZE);
    let layer = repository.layers[0].clone();
    let name = layer.strip_prefix("sha256:").unwrap().to_string();
    let store = place.store("store");
    let leave = |store: &Store| {
        let broken = Server::start(repository.clone(), |server, seen| {
            let reply = server.honest(seen).cut(SIZE / 2, Cut::Close);
            seen.blob()
                .filter(|blob| *blob == server.repository().layers[0])
                .map(|_| reply)
        });
        let error = pull(store, &broken.image(), options().retry(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Registry, "{error}");
        broken.end();
        let left = partial(store)
            .into_iter()
            .find(|(own, _)| *own == name)
            .unwrap()
            .1;
        assert!(left > 0 && left <= SIZE as u64 / 2, "{left}");
        assert!(store.disk_use().unwrap().temporary >= left);
        left
    };
    let at = store.path().join("partial").join(&name);

    let left = leave(&store);
    let server = Server::start(repository.clone(), |_, _| None);
    pull(&store, &server.image(), options()).unwrap();
    let from: Vec<usize> = server
        .layers_asked()
        .iter()
        .filter(|seen| seen.blob() == Some(&layer))
        .map(Seen::from)
        .collect();
    assert_eq!(from, [left as usize]);
    assert_whole(&store, 1);
    assert_eq!(partial(&store), []);

    // What is left is garbage: as much of it as there should be, and less. It comes anew, once.
    for length in [SIZE / 3, repository.blobs[&layer].len(), SIZE * 2] {
        store.prune(true).unwrap();
        std::fs::write(&at, vec![7; length]).unwrap();
        pull(&store, &server.image(), options()).unwrap();
        assert_whole(&store, 1);
    }
    // It is another name of a blob of the store's: that is never written to.
    store.prune(true).unwrap();
    leave(&store);
    let other = place.at("other");
    std::fs::hard_link(&at, &other).unwrap();
    let before = std::fs::read(&other).unwrap();
    pull(&store, &server.image(), options()).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert_whole(&store, 1);

    // Nobody comes back for it.
    store.prune(true).unwrap();
    leave(&store);
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    std::fs::File::open(&at).unwrap().set_modified(old).unwrap();
    let error = pull(&store, "127.0.0.1:1/x", options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registry);
    assert!(!at.exists());
    leave(&store);
    assert!(store.prune(false).unwrap().bytes > 0);
    assert_eq!(partial(&store), []);
}

#[test]
fn a_server_that_is_busy_is_waited_for() {
    let place = Place::in_memory();
    let repository = random_image(&place, 2, 10_000);
    for (status, after, least) in [(429, Some("1"), 1.0), (503, None, 0.25), (500, None, 0.25)] {
        let count = AtomicUsize::new(0);
        let server = Server::start(repository.clone(), move |_, seen| {
            let busy = seen.blob().is_some() && count.fetch_add(1, Ordering::Relaxed) == 0;
            busy.then(|| match after {
                Some(after) => Reply::new(status, "").header("Retry-After", after),
                None => Reply::new(status, ""),
            })
        });
        let store = place.store(&format!("store{status}"));
        let began = Instant::now();
        pull(&store, &server.image(), options()).unwrap();
        assert!(began.elapsed().as_secs_f64() >= least, "{status}");
        assert_whole(&store, 1);
    }
    // Not for longer than anybody would.
    let server = Server::start(repository, |_, _| {
        Some(Reply::new(429, "").header("Retry-After", "100000"))
    });
    let store = place.store("store");
    let began = Instant::now();
    assert_fails(
        pull(&store, &server.image(), options()),
        ErrorKind::Registry,
        "http",
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn two_at_once_download_once() {
    let place = Place::in_memory();
    let repository = random_image(&place, 3, SIZE);
    let server = Server::start(repository, |server, seen| {
        std::thread::sleep(Duration::from_millis(100));
        Some(server.honest(seen))
    });
    let store = place.store("store");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = Store::open(Some(store.path())).unwrap();
                pull(&own, &server.image(), options()).unwrap();
            });
        }
    });
    assert_eq!(server.layers_asked().len(), 3, "each layer once");
    assert_whole(&store, 1);
    assert_eq!(partial(&store), []);
}
