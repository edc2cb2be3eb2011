//! Archives and layouts, honest and lying, on their way into a store and out of it.

use super::stores::{assert_intact, entries, layer, store, stream};
use super::{Place, Tar};
use crate::error::{Error, ErrorKind};
use crate::image::manifest::{CONFIG, Descriptor, INDEX, MANIFEST};
use crate::image::{Digest, Format, Import, Load, LoadLimits, Source, Store, Target};
use flate2::write::GzEncoder;
use std::io::Write;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
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

/// Another thread saves to the same file meanwhile, and a killed process of the same id has left a part of one.
#[test]
fn who_saves_to_the_same_file_is_not_in_the_way() {
    let a = layer("a");
    let mut layout = Layout::default();
    let image = layout.image(&[(&a, &a)]);
    layout.add(&image, "x:1", None);
    let place = Place::new();
    let store = store(&place);
    store.load(stream(layout.end()), Load::default()).unwrap();
    let path = place.path().join("x.tar");
    let save = |watch: Option<&mut crate::image::read::Watch<'_>>| {
        store.save(
            &["x:1"],
            Format::DockerArchive,
            Target::Path(path.clone()),
            watch,
        )
    };
    let mut other = None;
    let mut watch = |_: &crate::image::Progress| {
        other.get_or_insert_with(|| save(None));
        std::ops::ControlFlow::Continue(())
    };
    save(Some(&mut watch)).unwrap();
    other.unwrap().unwrap();
    let left = std::fs::read_dir(place.path()).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name());
    assert!(left.all(|name| !name.to_string_lossy().ends_with(".partial")));
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
        // The id of some image, which it would be taken for.
        (
            "name",
            archive(
                &config,
                &manifest("x/layer.tar", Digest::of("x").as_str()),
                &data,
            ),
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
