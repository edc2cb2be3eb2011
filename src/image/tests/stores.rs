//! Whole images in a store.

use super::{Place, Tar};
use crate::error::{Error, ErrorKind};
use crate::image::manifest::{CONFIG, Descriptor, INDEX, MANIFEST};
use crate::image::{Digest, Format, Import, Load, LoadLimits, Source, Store, Target};
use flate2::write::GzEncoder;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

fn stream(data: Vec<u8>) -> Source {
    Source::Stream(Box::new(Cursor::new(data)))
}

/// An OCI layout under construction, in a tar file.
#[derive(Default)]
struct Layout {
    tar: Tar,
    manifests: Vec<serde_json::Value>,
}

impl Layout {
    fn blob(&mut self, data: &[u8]) -> Digest {
        let digest = Digest::of(data);
        self.put(&digest, data);
        digest
    }

    fn put(&mut self, digest: &Digest, data: &[u8]) {
        let name = format!("blobs/sha256/{}", digest.hex());
        let tar = std::mem::take(&mut self.tar);
        self.tar = tar.entry(&super::Header::new(&name, b'0', data.len() as u64), data);
    }

    /// An image of layers: tar streams, and the blobs in which they come.
    fn image(&mut self, layers: &[(&[u8], &[u8])]) -> serde_json::Value {
        let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| Digest::of(tar)).collect();
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = serde_json::to_vec(&config).unwrap();
        let config = Descriptor::new(CONFIG, self.blob(&config), config.len() as u64);
        let layers: Vec<_> = layers
            .iter()
            .map(|(_, blob)| {
                Descriptor::new(
                    "application/vnd.oci.image.layer.v1.tar",
                    self.blob(blob),
                    blob.len() as u64,
                )
            })
            .collect();
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
    }

    fn add(&mut self, manifest: &serde_json::Value, name: &str, architecture: Option<&str>) {
        let json = serde_json::to_vec(manifest).unwrap();
        let digest = self.blob(&json);
        let mut descriptor =
            serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": json.len()});
        if !name.is_empty() {
            descriptor["annotations"] =
                serde_json::json!({"org.opencontainers.image.ref.name": name});
        }
        if let Some(architecture) = architecture {
            descriptor["platform"] =
                serde_json::json!({"os": "linux", "architecture": architecture});
        }
        self.manifests.push(descriptor);
    }

    fn end(self) -> Vec<u8> {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests});
        let index = index.to_string();
        self.tar
            .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", &index)
            .end()
    }
}

fn store(place: &Place) -> Store {
    Store::open(Some(&place.path().join("store"))).unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    Tar::default().dir("etc").file("etc/text", text).end()
}

fn import(store: &Store, name: &str, text: &str) -> crate::image::ImageInfo {
    store
        .import(stream(layer(text)), Import::default().name(name))
        .unwrap()
}

#[track_caller]
fn assert_intact(store: &Store) {
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
    assert_eq!(store.disk_use().unwrap().temporary, 0);
}

/// The names in a directory of the store.
fn entries(store: &Store, dir: &str) -> usize {
    std::fs::read_dir(store.path().join(dir)).unwrap().count()
}

#[test]
fn every_compression_of_a_layout() {
    let (a, b, c) = (layer("a"), layer("b"), layer("c"));
    let mut layout = Layout::default();
    let image = layout.image(&[(&a, &a), (&b, &gzip(&b)), (&c, &zstd(&c))]);
    layout.add(&image, "some/name:1", None);
    let archive = layout.end();
    let place = Place::new();
    let store = store(&place);
    // The archive itself may be compressed too, and come as a stream.
    for data in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let loaded = store.load(stream(data), Load::default()).unwrap();
        assert_eq!(loaded[0].names, ["some/name:1"]);
        assert_eq!(loaded[0].layers.len(), 3);
        assert_eq!(loaded[0].config.config.cmd, ["/bin/sh"]);
    }
    let image = store.resolve("some/name:1").unwrap();
    let text = |i: usize| std::fs::read_to_string(image.layers[i].join("etc/text")).unwrap();
    assert_eq!(
        (text(0), text(1), text(2)),
        ("a".into(), "b".into(), "c".into())
    );
    assert_intact(&store);
}

#[test]
fn saved_and_loaded_it_is_the_same() {
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let image = layout.image(&[(&a, &gzip(&a)), (&b, &zstd(&b))]);
    layout.add(&image, "x:1", None);
    let place = Place::new();
    let first = store(&place);
    let loaded = first
        .load(stream(layout.end()), Load::default())
        .unwrap()
        .remove(0);
    for format in [
        Format::DockerArchive,
        Format::OciArchive,
        Format::OciDirectory,
    ] {
        let path = place.path().join(format!("{format:?}"));
        first
            .save(&["x:1"], format, Target::Path(path.clone()), None)
            .unwrap();
        let second = Store::open(Some(&place.path().join(format!("store-{format:?}")))).unwrap();
        let again = second
            .load(Source::Path(path), Load::default())
            .unwrap()
            .remove(0);
        assert_eq!(
            (&again.id, &again.names),
            (&loaded.id, &loaded.names),
            "{format:?}"
        );
        let digests = |info: &crate::image::ImageInfo| {
            info.layers
                .iter()
                .map(|l| l.diff_id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(digests(&again), digests(&loaded));
        if format != Format::DockerArchive {
            assert_eq!(again.digest, loaded.digest, "the manifest is kept as it is");
        }
        assert_intact(&second);
    }
    // By its id it has no name there.
    let mut bytes = Vec::new();
    first
        .save(
            &[loaded.id.as_str()],
            Format::DockerArchive,
            Target::Stream(&mut bytes),
            None,
        )
        .unwrap();
    let second = Store::open(Some(&place.path().join("nameless"))).unwrap();
    assert_eq!(
        second.load(stream(bytes), Load::default()).unwrap()[0].names,
        [""; 0]
    );
}

#[test]
fn the_platform_that_fits() {
    let (mine, other) = (layer("mine"), layer("other"));
    let mut layout = Layout::default();
    let (first, second) = (
        layout.image(&[(&other, &other)]),
        layout.image(&[(&mine, &mine)]),
    );
    let here = crate::image::config::architecture();
    layout.add(&first, "", Some("pdp11"));
    layout.add(&second, "", Some(here));
    layout.add(&first, "", Some("unknown"));
    let archive = layout.end();
    let place = Place::new();
    let store = store(&place);
    let text = |load: Load| {
        let id = store.load(stream(archive.clone()), load)?.remove(0).id;
        let image = store.resolve(id.as_str())?;
        Ok::<_, Error>(std::fs::read_to_string(image.layers[0].join("etc/text")).unwrap())
    };
    assert_eq!(text(Load::default()).unwrap(), "mine");
    assert_eq!(
        text(Load::default().platform("linux/pdp11")).unwrap(),
        "other"
    );
    let error = text(Load::default().platform("linux/vax")).unwrap_err();
    assert_eq!(error.step(), "platform");
    assert!(error.to_string().contains("pdp11"), "{error}");
    assert_eq!(
        text(Load::default().platform("vax")).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

/// A lie of any kind is named, and leaves nothing behind.
#[test]
fn lies_are_refused() {
    type Lie = fn(&mut Layout, serde_json::Value) -> serde_json::Value;
    let lies: [(&str, Lie); 9] = [
        ("size", |_, mut m| {
            m["layers"][0]["size"] = 5.into();
            m
        }),
        ("size", |_, mut m| {
            m["layers"][0]["size"] = 50_000_000.into();
            m
        }),
        ("size", |_, mut m| {
            m["config"]["size"] = 5.into();
            m
        }),
        ("digest", |layout, mut m| {
            let claimed = Digest::of("something else");
            let data = layer("hostile");
            layout.put(&claimed, &data);
            m["layers"][0]["digest"] = claimed.as_str().into();
            m["layers"][0]["size"] = data.len().into();
            m
        }),
        // What it is when unpacked is not what the configuration says.
        ("digest", |layout, mut m| {
            let data = layer("hostile");
            m["layers"][0]["digest"] = layout.blob(&data).as_str().into();
            m["layers"][0]["size"] = data.len().into();
            m
        }),
        ("manifest", |_, mut m| {
            m["layers"][0]["digest"] = Digest::of("not there").as_str().into();
            m
        }),
        ("manifest", |_, mut m| {
            m["layers"] = serde_json::json!([]);
            m
        }),
        ("manifest", |_, mut m| {
            m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into();
            m
        }),
        ("manifest", |_, mut m| {
            m["manifests"] = serde_json::json!([]);
            m
        }),
    ];
    for (i, (rule, lie)) in lies.into_iter().enumerate() {
        let place = Place::new();
        let store = store(&place);
        let data = layer("honest");
        let mut layout = Layout::default();
        let manifest = layout.image(&[(&data, &data)]);
        let manifest = lie(&mut layout, manifest);
        layout.add(&manifest, "x:1", None);
        let error = store
            .load(stream(layout.end()), Load::default())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::Image, rule),
            "{i}: {error}"
        );
        assert_eq!(store.list().unwrap().len(), 0);
        assert_eq!(
            (entries(&store, "layers"), entries(&store, "blobs/sha256")),
            (0, 0),
            "{i}"
        );
        assert_intact(&store);
    }
}

#[test]
fn docker_archives_that_lie() {
    let data = layer("a");
    let config = serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&data)]}}).to_string();
    let archive = |config: &str, manifest: &str, layer: &[u8]| {
        let header = super::Header::new("x/layer.tar", b'0', layer.len() as u64);
        Tar::default()
            .entry(&header, layer)
            .link("y/layer.tar", b'2', "../x/layer.tar")
            .link("z", b'2', "z")
            .file("c.json", config)
            .file("manifest.json", manifest)
            .end()
    };
    let manifest = |layer: &str, tag: &str| {
        serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": [layer]}]).to_string()
    };
    let place = Place::new();
    let store = store(&place);
    let load = |data: Vec<u8>| store.load(stream(data), Load::default());
    for (rule, data) in [
        (
            "digest",
            archive(&config, &manifest("x/layer.tar", "a:1"), &layer("b")),
        ),
        (
            "path",
            archive(&config, &manifest("../../etc/passwd", "a:1"), &data),
        ),
        ("path", archive(&config, &manifest("z", "a:1"), &data)),
        (
            "manifest",
            archive(&config, &manifest("/etc/passwd", "a:1"), &data),
        ),
        (
            "name",
            archive(&config, &manifest("x/layer.tar", "../x:1"), &data),
        ),
        ("manifest", archive(&config, "[]", &data)),
        ("manifest", archive(&config, "{", &data)),
        (
            "config",
            archive("{", &manifest("x/layer.tar", "a:1"), &data),
        ),
        (
            "platform",
            archive(
                &config.replace("linux", "windows"),
                &manifest("x/layer.tar", "a:1"),
                &data,
            ),
        ),
        ("format", layer("no archive")),
    ] {
        let error = load(data).unwrap_err();
        assert_eq!(
            (error.kind(), error.step()),
            (ErrorKind::Image, rule),
            "{error}"
        );
    }
    assert_eq!(entries(&store, "blobs/sha256"), 0);
    // A link in the archive, and a compressed layer, as newer Dockers write them.
    let loaded = load(archive(
        &config,
        &manifest("y/layer.tar", "a:1"),
        &gzip(&data),
    ))
    .unwrap();
    assert_eq!(loaded[0].names, ["a:1"]);
    assert_intact(&store);
}

#[test]
fn bombs_and_limits() {
    let zeros = vec![0u8; 8 << 20];
    let tar = {
        let header = super::Header::new("zeros", b'0', zeros.len() as u64);
        Tar::default().entry(&header, &zeros).end()
    };
    let place = Place::new();
    let store = store(&place);
    let import = |data: Vec<u8>, limits: LoadLimits| {
        store
            .import(stream(data), Import::default().limits(limits))
            .unwrap_err()
            .step()
            .to_string()
    };
    let bomb = gzip(&tar);
    assert_eq!(import(bomb.clone(), LoadLimits::default()), "limit ratio");
    assert_eq!(
        import(bomb, LoadLimits::default().size(1 << 20)),
        "limit size"
    );
    assert_eq!(
        import(layer("a"), LoadLimits::default().entries(1)),
        "limit entries"
    );
    assert_intact(&store);
}

#[test]
fn names_ids_and_removal() {
    let place = Place::new();
    let store = store(&place);
    let (a, b) = (import(&store, "host/a", "a"), import(&store, "b:2", "b"));
    assert_eq!(a.names, ["host/a:latest"]);
    let id = |reference: &str| store.inspect(reference).map(|info| info.id);
    assert_eq!(id("a").unwrap(), a.id);
    assert_eq!(id("host/a:latest").unwrap(), a.id);
    assert_eq!(id(&a.id.hex()[..8]).unwrap(), a.id);
    for none in ["b", "a:2", "nothing", "../b", "sha256:", "ffffffffffffffff"] {
        assert_eq!(id(none).unwrap_err().kind(), ErrorKind::NotFound, "{none}");
    }
    store.tag("a", "c").unwrap();
    assert_eq!(
        store.tag("a", "A B").unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    // One of two names, then the other.
    let removed = store.remove("c").unwrap();
    assert_eq!(
        (removed.names, removed.images.len()),
        (vec!["c:latest".to_string()], 0)
    );
    let removed = store.remove("a").unwrap();
    assert_eq!(removed.names, ["host/a:latest"]);
    assert_eq!(removed.images, [a.id]);
    assert!(removed.bytes > 0);
    assert_eq!(entries(&store, "layers"), 1);
    // A name that moves leaves an image without one, until it is pruned.
    let other = import(&store, "b:2", "other");
    assert_eq!(id("b:2").unwrap(), other.id);
    assert!(store.disk_use().unwrap().reclaimable > 0);
    assert_eq!(store.list().unwrap().last().unwrap().names, [""; 0]);
    assert_eq!(store.prune(false).unwrap().images, [b.id]);
    assert_eq!(store.disk_use().unwrap().reclaimable, 0);
    assert_intact(&store);
    assert_eq!(store.prune(true).unwrap().names, ["b:2"]);
    assert_eq!(
        (entries(&store, "layers"), entries(&store, "blobs/sha256")),
        (0, 0)
    );
}

#[test]
fn what_is_used_stays() {
    let place = Place::new();
    let store = store(&place);
    let a = import(&store, "a", "a");
    let used = store.resolve("a").unwrap();
    let clone = used.clone();
    // By another process as well: a lock belongs to its open file.
    let elsewhere = Store::open(Some(store.path())).unwrap();
    assert_eq!(elsewhere.remove("a").unwrap().images, []);
    assert_eq!(elsewhere.prune(true).unwrap().images, []);
    drop(used);
    assert_eq!(elsewhere.prune(true).unwrap().images, []);
    assert_eq!(
        std::fs::read(clone.layers[0].join("etc/text")).unwrap(),
        b"a"
    );
    drop(clone);
    assert_eq!(elsewhere.prune(true).unwrap().images, [a.id]);
    assert_eq!(entries(&store, "layers"), 0);
}

#[test]
fn layers_are_shared() {
    let place = Place::new();
    let store = store(&place);
    import(&store, "a", "a");
    let base = store.resolve("a").unwrap();
    let more = |text: &'static str| {
        store
            .append(
                Some(&base),
                |to| {
                    to.write_all(&layer(text))
                        .map_err(|e| Error::system("write", e))
                },
                |config| config.config.cmd = vec![text.into()],
                &[text],
                "test",
            )
            .unwrap()
    };
    let (b, c) = (more("b"), more("c"));
    assert_eq!(b.layers[0].path, c.layers[0].path);
    assert_eq!((b.layers.len(), entries(&store, "layers")), (2, 3));
    assert_eq!(store.inspect("c").unwrap().config.config.cmd, ["c"]);
    store.remove("b").unwrap();
    assert_eq!(entries(&store, "layers"), 2);
    assert_intact(&store);
}

#[test]
fn a_directory_becomes_an_image() {
    let place = Place::new();
    let store = store(&place);
    let rootfs = place.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("bin")).unwrap();
    std::fs::write(rootfs.join("bin/x"), "x").unwrap();
    std::fs::hard_link(rootfs.join("bin/x"), rootfs.join("bin/y")).unwrap();
    std::os::unix::fs::symlink("bin", rootfs.join("link")).unwrap();
    let image = store
        .import(Source::Path(rootfs.clone()), Import::default().name("d"))
        .unwrap();
    assert_eq!(
        image.config.architecture,
        crate::image::config::architecture()
    );
    let unpacked = &image.layers[0].path;
    assert_eq!(std::fs::read(unpacked.join("bin/y")).unwrap(), b"x");
    assert_eq!(
        std::fs::read_link(unpacked.join("link")).unwrap().to_str(),
        Some("bin")
    );
    // The same directory is the same layer.
    let again = store
        .import(Source::Path(rootfs), Import::default())
        .unwrap();
    assert_eq!(again.layers[0].diff_id, image.layers[0].diff_id);
    assert_intact(&store);
}

#[test]
fn damage_is_found() {
    let place = Place::new();
    let store = store(&place);
    let a = import(&store, "a", "a");
    assert_intact(&store);
    let file = a.layers[0].path.join("etc/text");
    std::fs::write(&file, "b").unwrap();
    let problems = store.verify().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("`/etc/text`"),
        "{problems:?}"
    );
    let blob = store
        .path()
        .join("blobs/sha256")
        .join(a.layers[0].digest.hex());
    let mut data = std::fs::read(&blob).unwrap();
    data[600] ^= 1;
    std::fs::write(&blob, data).unwrap();
    let problems = store.verify().unwrap().problems;
    assert!(
        problems.iter().any(|p| p.contains("its digest is")),
        "{problems:?}"
    );
    let error = store
        .save(
            &["a"],
            Format::OciArchive,
            Target::Stream(&mut Vec::new()),
            None,
        )
        .unwrap_err();
    assert_eq!(error.step(), "digest", "{error}");
    // Loading it again after its removal mends it.
    store.remove("a").unwrap();
    import(&store, "a", "a");
    assert_intact(&store);
}

#[test]
fn a_call_can_be_called_off() {
    let place = Place::new();
    let store = store(&place);
    let mut calls = 0;
    let mut watch = |progress: &crate::image::Progress| {
        calls += 1;
        assert_eq!(progress.what, "root file system");
        ControlFlow::Break(())
    };
    let error = store
        .import(stream(layer("a")), Import::default().progress(&mut watch))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert_eq!(calls, 1);
    assert_eq!(entries(&store, "layers"), 0);
    assert_intact(&store);
}

#[test]
fn many_at_once() {
    let place = Place::new();
    let path = place.path().join("store");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..15 {
                    let store = Store::open(Some(path)).unwrap();
                    // Some of them the same as what others make just now.
                    let name = format!("image{}", (worker + round) % 3);
                    store
                        .import(stream(layer(&name)), Import::default().name(&name))
                        .unwrap();
                    if let Ok(image) = store.resolve(&name) {
                        assert!(image.layers[0].join("etc/text").exists(), "held, and gone");
                    }
                    match round % 5 {
                        0 => drop(store.prune(true).unwrap()),
                        3 => drop(store.remove(&name)),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_intact(&Store::open(Some(&path)).unwrap());
}

#[test]
fn what_the_dead_left_is_swept() {
    let place = Place::new();
    let first = store(&place);
    let left = first.path().join("tmp/dead");
    std::fs::create_dir_all(left.join("0/diff")).unwrap();
    let alive = crate::image::lock::Scratch::new(&first.tmp).unwrap();
    assert_eq!(entries(&first, "tmp"), 2);
    Store::open(Some(first.path())).unwrap();
    assert_eq!(entries(&first, "tmp"), 1, "only that of the living is left");
    drop(alive);
    assert_eq!(entries(&first, "tmp"), 0);
}

#[test]
fn a_later_store_is_not_touched() {
    let place = Place::new();
    let path = store(&place).path().to_owned();
    for (text, kind) in [
        (r#"{"version":2,"other":[]}"#, ErrorKind::Unsupported),
        (r#"{"version":1,"images":"#, ErrorKind::Image),
    ] {
        std::fs::write(path.join("state.json"), text).unwrap();
        assert_eq!(Store::open(Some(&path)).unwrap_err().kind(), kind);
    }
}
