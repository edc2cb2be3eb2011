//! What a registry answers, true or not.

use super::server::{Cut, INDEX, MANIFEST, Reply, Repository, Server};
use super::*;
use crate::images::tree;
use stockade::image::{Digest, LoadLimits};

#[test]
fn an_image_is_the_same_as_where_it_came_from() {
    let place = Place::in_memory();
    let source = place.store("source");
    two_layers(&source, &place, 20);
    let server = Server::start(Repository::of(&source, "two:1", &place), |_, _| None);
    let store = place.store("store");
    let image = pull(&store, &server.image(), options()).unwrap();
    assert_eq!(image.names, [server.image()]);
    assert_eq!(image.digest.as_str(), server.repository().manifest);
    assert_whole(&store, 1);
    let (own, there) = (
        source.resolve("two:1").unwrap(),
        store.resolve("y:1").unwrap(),
    );
    assert_eq!(own.id, there.id);
    for (own, there) in own.layers.iter().zip(&there.layers) {
        assert_eq!(tree(own), tree(there));
    }
    assert_eq!(partial(&store), []);

    // Once more: the manifest may be another by now, and nothing else is asked for.
    let before = server.seen().len();
    pull(&store, &server.image(), options()).unwrap();
    let asked: Vec<String> = server
        .seen()
        .split_off(before)
        .into_iter()
        .map(|seen| seen.path)
        .collect();
    assert_eq!(asked, ["/v2/x/y/manifests/1"]);
    assert_whole(&store, 1);
}

#[test]
fn by_its_digest_it_is_what_was_asked_for() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 1000);
    let manifest = repository.manifest.clone();
    let server = Server::start(repository, |_, _| None);
    let store = place.store("store");
    let name = format!("{}/x/y@{manifest}", server.address());
    let image = pull(&store, &name, options()).unwrap();
    assert_eq!(image.names, std::slice::from_ref(&name));
    for reference in [
        &name,
        &format!("{}/x/y:9@{manifest}", server.address()),
        &format!("y@{manifest}"),
    ] {
        assert_eq!(
            store.resolve(reference).unwrap().id,
            image.id,
            "{reference}"
        );
    }
    assert!(store.tag(&name, "y:2").is_ok() && store.tag("y:2", &name).is_err());
    // It is a name, so that it is kept; and it goes as one.
    store.prune(false).unwrap();
    assert_eq!(store.remove("y:2").unwrap().images.len(), 0);
    assert_eq!(store.remove(&name).unwrap().names, [name]);
    assert_whole(&store, 0);

    // Another manifest in its place.
    let other = server.clone();
    let liar = Server::start(server.repository().clone(), move |_, seen| {
        let mut reply = other.honest(seen);
        reply.body.push(b' ');
        seen.is_manifest().then_some(reply)
    });
    let name = format!("{}/x/y@{manifest}", liar.address());
    assert_fails(pull(&store, &name, options()), ErrorKind::Image, "digest");
    assert_whole(&store, 0);
}

#[test]
fn the_platform_is_chosen() {
    let place = Place::in_memory();
    let mut repository = random_image(&place, 1, 1000);
    let (config, layers) = (
        repository.json()["config"].clone(),
        repository.json()["layers"].clone(),
    );
    let mut entries = Vec::new();
    for (architecture, variant) in [
        ("amd64", ""),
        ("arm64", "v8"),
        ("arm", "v7"),
        ("riscv64", ""),
    ] {
        let digest = config["digest"].as_str().unwrap();
        let mut own: serde_json::Value = serde_json::from_slice(&repository.blobs[digest]).unwrap();
        own["architecture"] = architecture.into();
        let text = own.to_string();
        let digest = repository.add(text.clone());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": {"mediaType": config["mediaType"], "digest": digest, "size": text.len()},
        })
        .to_string();
        let digest = repository.add(manifest.clone());
        entries.push(serde_json::json!({
            "mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture, "variant": variant},
        }));
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        .to_string();
    let arm64 = entries[1]["digest"].as_str().unwrap().to_string();
    repository.manifest = repository.add(index);
    let server = Server::start(repository, |_, _| None);
    let store = place.store("store");
    let pulled = |platform: &str| pull(&store, &server.image(), options().platform(platform));
    for (platform, architecture) in [
        ("linux/arm64", "arm64"),
        ("linux/arm/v7", "arm"),
        ("linux/amd64", "amd64"),
    ] {
        assert_eq!(pulled(platform).unwrap().config.architecture, architecture);
    }
    let why = assert_fails(pulled("linux/s390x"), ErrorKind::Image, "platform");
    assert!(why.contains("riscv64"), "{why}");
    assert_fails(pulled("linux/arm/v6"), ErrorKind::Image, "platform");
    assert_fails(pulled("plan9/amd64"), ErrorKind::InvalidArgument, "");
    // One that is named by its digest and is for other machines is not taken for this one's.
    let name = format!("{}/x/y@{arm64}", server.address());
    let own = std::env::consts::ARCH == "aarch64";
    let other = if own { "linux/amd64" } else { "linux/arm64" };
    match own {
        true => assert_fails(
            pull(&store, &name, options().platform(other)),
            ErrorKind::Image,
            "platform",
        ),
        false => assert_fails(pull(&store, &name, options()), ErrorKind::Image, "platform"),
    };
    assert_whole(&store, 3);
}

/// A server that sends something else for one of the blobs, and the step of the error that this is.
#[test]
fn what_is_not_as_it_should_be_is_refused() {
    let place = Place::in_memory();
    let repository = random_image(&place, 2, 100_000);
    let layer = repository.layers[1].clone();
    let size = repository.blobs[&layer].len();
    let config = repository.json()["config"]["digest"]
        .as_str()
        .unwrap()
        .to_string();
    let store = place.store("store");
    type Lie = Box<dyn Fn(Reply) -> Reply + Send + Sync>;
    let lies: [(&str, &str, &str, Lie); 6] = [
        (
            "another layer",
            &layer,
            "digest",
            Box::new(|mut reply| {
                reply.body[50_000] ^= 1;
                reply
            }),
        ),
        (
            "a longer one",
            &layer,
            "size",
            Box::new(|mut reply| {
                reply.body.resize(2_000_000, 0);
                reply
            }),
        ),
        (
            "a shorter one, as if that was all",
            &layer,
            "size",
            Box::new(move |mut reply| {
                reply.body.truncate(size / 2);
                Reply {
                    status: 200,
                    headers: Vec::new(),
                    ..reply
                }
            }),
        ),
        (
            "nothing",
            &layer,
            "connect",
            Box::new(|_| Reply::new(200, "")),
        ),
        (
            "another configuration",
            &config,
            "digest",
            Box::new(|mut reply| {
                let last = reply.body.len() - 2;
                reply.body[last] = b' ';
                reply
            }),
        ),
        (
            "an endless configuration",
            &config,
            "size",
            Box::new(|_| Reply::new(200, vec![b' '; 40_000_000])),
        ),
    ];
    for (what, digest, step, lie) in lies {
        let digest = digest.to_string();
        let server = Server::start(repository.clone(), move |server, seen| {
            (seen.blob() == Some(&digest)).then(|| lie(server.honest(seen)))
        });
        let error = pull(&store, &server.image(), options().retry(1)).unwrap_err();
        assert_eq!(error.step(), step, "{what}: {error}");
        let kind = if step == "connect" {
            ErrorKind::Registry
        } else {
            ErrorKind::Image
        };
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(
            server.sent() < 20_000_000,
            "{what}: {} bytes were read",
            server.sent()
        );
        assert_whole(&store, 0);
        store.prune(true).unwrap();
        assert_eq!(partial(&store), [], "{what}");
    }
}

#[test]
fn manifests_that_are_none() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 1000);
    let store = place.store("store");
    let json = repository.json();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        json.to_string()
    };
    let huge = with(&|json| json["layers"][0]["size"] = (65_u64 << 30).into());
    let twice = with(&|json| json["layers"] = vec![json["layers"][0].clone(); 2].into());
    let many = with(&|json| json["layers"] = vec![json["layers"][0].clone(); 501].into());
    let encrypted = with(&|json| json["layers"][0]["mediaType"] = "x.tar+encrypted".into());
    let elsewhere =
        with(&|json| json["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into());
    let nested = serde_json::json!({"schemaVersion": 2, "manifests": []}).to_string();
    for (manifest, kind, step) in [
        (huge, ErrorKind::Image, "limit size"),
        (twice, ErrorKind::Image, "manifest"),
        (many, ErrorKind::Image, "manifest"),
        (encrypted, ErrorKind::Unsupported, ""),
        (elsewhere, ErrorKind::Image, "manifest"),
        (nested, ErrorKind::Image, "platform"),
        ("<html>".into(), ErrorKind::Image, "manifest"),
        (String::new(), ErrorKind::Image, "manifest"),
        (
            r#"{"schemaVersion": 1, "fsLayers": []}"#.into(),
            ErrorKind::Image,
            "manifest",
        ),
        (" ".repeat(5 << 20), ErrorKind::Image, "size"),
    ] {
        let text = manifest.clone();
        let server = Server::start(repository.clone(), move |_, seen| {
            seen.is_manifest()
                .then(|| Reply::new(200, text.clone()).header("Content-Type", "text/plain"))
        });
        let error = pull(&store, &server.image(), options()).unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (kind, step),
            "{error}: {}",
            &manifest[..manifest.len().min(300)]
        );
        assert_whole(&store, 0);
    }
    // Layers that are what their digests say, and not what the configuration says of them.
    let mut changed = repository.clone();
    let config = json["config"]["digest"].as_str().unwrap();
    let mut own: serde_json::Value = serde_json::from_slice(&repository.blobs[config]).unwrap();
    own["rootfs"]["diff_ids"][0] = Digest::of("other").as_str().into();
    let own = own.to_string();
    let mut manifest = json.clone();
    manifest["config"]["size"] = own.len().into();
    manifest["config"]["digest"] = changed.add(own).into();
    changed.manifest = changed.add(manifest.to_string());
    let server = Server::start(changed, |_, _| None);
    assert_fails(
        pull(&store, &server.image(), options()),
        ErrorKind::Image,
        "digest",
    );
    assert_whole(&store, 0);
    assert_eq!(partial(&store), [], "nobody wants them");
    // The registry's own word about a tag is held against what it sends.
    let server = Server::start(repository.clone(), |server, seen| {
        let reply = server
            .honest(seen)
            .header("Docker-Content-Digest", Digest::of("other").as_str());
        seen.is_manifest().then_some(reply)
    });
    assert_fails(
        pull(&store, &server.image(), options()),
        ErrorKind::Image,
        "digest",
    );
    let server = Server::start(repository, |_, _| None);
    let limits = LoadLimits::default().size(500);
    assert_fails(
        pull(&store, &server.image(), options().limits(limits)),
        ErrorKind::Image,
        "limit size",
    );
    assert_fails(
        pull(&store, &format!("{}/x/z", server.address()), options()),
        ErrorKind::NotFound,
        "",
    );
    assert_fails(
        pull(&store, "127.0.0.1:1/x/y", options()),
        ErrorKind::Registry,
        "connect",
    );
    assert_whole(&store, 0);
}

/// The directory of a name that means nothing is never asked for anything.
#[test]
fn names_that_are_none() {
    let place = Place::in_memory();
    let store = place.store("store");
    for name in [
        "",
        "docker://x/y",
        "x y",
        "localhost:99999/x",
        "localhost/../x",
        "localhost/x@sha256:1",
    ] {
        let error = store.pull(name, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}: {error}");
    }
    for mirror in ["", "http://localhost", "localhost/../x", "local host"] {
        let error = store
            .pull("localhost:1/x", options().mirror(mirror))
            .unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("mirror"),
            "{error}"
        );
    }
}

#[test]
fn layers_come_three_at_a_time() {
    let place = Place::in_memory();
    let repository = random_image(&place, 7, 40_000);
    let slow = |server: &Server, seen: &server::Seen| {
        if seen.blob().is_some() {
            std::thread::sleep(Duration::from_millis(150) * crate::support::slowness());
        }
        Some(server.honest(seen))
    };
    for (options, peak) in [
        (options(), 3),
        (options().max_concurrent_downloads(5), 5),
        (options().max_concurrent_downloads(1), 1),
    ] {
        let server = Server::start(repository.clone(), slow);
        let store = place.store(&format!("store{peak}"));
        let mut told = std::collections::BTreeMap::new();
        let mut watch = |now: &stockade::image::Progress| {
            told.insert(now.what.clone(), (now.done, now.total));
            std::ops::ControlFlow::Continue(())
        };
        pull(&store, &server.image(), options.progress(&mut watch)).unwrap();
        assert_eq!(server.peak(), peak);
        assert_eq!(server.layers_asked().len(), 7);
        for i in 1..=7 {
            let (done, total) = told[&format!("download {i}/7")];
            assert_eq!(
                (Some(done), total > Some(40_000)),
                (total, true),
                "{told:?}"
            );
            assert!(told.contains_key(&format!("layer {i}/7")), "{told:?}");
        }
        assert_whole(&store, 1);
    }
}

#[test]
fn a_mirror_is_asked_first_and_not_trusted() {
    let place = Place::in_memory();
    let repository = random_image(&place, 3, 50_000);
    let bad_layer = repository.layers[1].clone();
    let registry = Server::start(repository.clone(), |_, _| None);
    let good = Server::start(repository.clone(), |server, seen| {
        let path = seen.path.replace("/v2/cache/x/y/", "/v2/x/y/");
        Some(server.honest(&server::Seen {
            path,
            ..seen.clone()
        }))
    });
    let store = place.store("store");
    let image = registry.image();
    // A dead mirror, one that lacks it, and one that has it below a path of its own.
    let lacks = Server::start(Repository::default(), |_, _| None);
    let mirrors = options()
        .mirror("127.0.0.1:1")
        .mirror(lacks.address())
        .mirror(format!("{}/cache", good.address()));
    assert_eq!(
        pull(&store, &image, mirrors).unwrap().names,
        std::slice::from_ref(&image)
    );
    assert_eq!(registry.seen().len(), 0, "the mirror has all of it");
    assert!(lacks.seen().len() > 1 && good.layers_asked().len() == 3);
    assert_whole(&store, 1);

    // One that sends another layer: it comes from the registry, and the others from the mirror.
    let store = place.store("store2");
    let liar = Server::start(repository, move |server, seen| {
        let mut reply = server.honest(seen);
        if seen.blob() == Some(&bad_layer) {
            reply.body[20_000] ^= 1;
        }
        Some(reply)
    });
    pull(&store, &image, options().mirror(liar.address())).unwrap();
    assert_eq!(
        (registry.layers_asked().len(), liar.layers_asked().len()),
        (1, 3)
    );
    assert_whole(&store, 1);

    // When nobody helps, all that was tried is told.
    registry.end();
    let why = pull(&store, "127.0.0.1:1/x/y", options().mirror(lacks.address())).unwrap_err();
    assert!(
        why.to_string().contains("127.0.0.1:1") && why.to_string().contains(lacks.address()),
        "{why}"
    );
}

/// Neither is one in place of an error's body: a registry cannot keep a pull for ever by what nobody needs to know.
#[test]
fn an_error_that_drips_is_one() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 100_000);
    let server = Server::start(repository, |_, seen| {
        let error = Reply::new(404, " ".repeat(10_000)).cut(10, Cut::Drip);
        seen.is_manifest().then_some(error)
    });
    let store = place.store("store");
    let began = std::time::Instant::now();
    let options = options().timeout(Duration::from_millis(400)).retry(1);
    let failed = pull(&store, &server.image(), options).expect_err("it has none");
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    assert!(began.elapsed() < Duration::from_secs(10) * crate::support::slowness());
}

#[test]
fn a_drip_is_no_stream() {
    let place = Place::in_memory();
    let repository = random_image(&place, 1, 100_000);
    let server = Server::start(repository, |server, seen| {
        seen.blob().map(|_| server.honest(seen).cut(10, Cut::Drip))
    });
    let store = place.store("store");
    let began = std::time::Instant::now();
    let options = options().timeout(Duration::from_millis(400)).retry(1);
    assert_fails(
        pull(&store, &server.image(), options),
        ErrorKind::Registry,
        "timeout",
    );
    assert!(began.elapsed() < Duration::from_secs(10) * crate::support::slowness());
}
