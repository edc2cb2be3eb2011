//! The documents that hold an image together: indexes and manifests, in the words of the OCI and of Docker.

use super::{Digest, bad};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest document that is read.
pub(super) const DOCUMENT_MAX: u64 = 4 << 20;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The annotation of an index that names an image: in a layout of one repository its tag, for podman the whole name.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, by containerd. Docker and podman look here first.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What a document says about a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An index, or Docker's list of manifests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// A manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// One or the other.
pub(super) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// An image in the `manifest.json` of a Docker archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    /// The name that the annotations give.
    pub fn name(&self) -> Option<&str> {
        let whole = self.annotations.get(CONTAINERD_NAME);
        whole
            .or_else(|| self.annotations.get(REF_NAME))
            .map(String::as_str)
    }
}

impl Document {
    /// Reads what a descriptor of this media type points to. A document that could be both is refused: tools have been
    /// made to disagree about such.
    pub fn parse(media_type: &str, json: &[u8]) -> Result<Document, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Both {
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let both: Both = parse("a manifest", json)?;
        if both.manifests.is_some() && (both.layers.is_some() || both.config.is_some()) {
            return Err(bad(
                "manifest",
                "a document is a manifest and an index at once",
            ));
        }
        let said = [media_type, &both.media_type];
        let index = match said.iter().find(|text| !text.is_empty()) {
            Some(&INDEX | &DOCKER_LIST) => true,
            Some(&MANIFEST | &DOCKER_MANIFEST) => false,
            None => both.manifests.is_some(),
            Some(other) => {
                return Err(bad(
                    "manifest",
                    format!("`{}` is no image", other.escape_debug()),
                ));
            }
        };
        Ok(match index {
            true => Document::Index(parse("an index", json)?),
            false => {
                let manifest: Manifest = parse("a manifest", json)?;
                match manifest.config.media_type.as_str() {
                    "" | CONFIG | DOCKER_CONFIG => Document::Manifest(manifest),
                    other => {
                        return Err(bad(
                            "manifest",
                            format!("it holds `{}`, which is no image", other.escape_debug()),
                        ));
                    }
                }
            }
        })
    }
}

impl Platform {
    /// The one among `descriptors` that fits best. `self` has at least an architecture.
    pub fn best<'d>(&self, descriptors: &'d [Descriptor]) -> Result<&'d Descriptor, Error> {
        let fits = |descriptor: &Descriptor| match &descriptor.platform {
            None => Some(0),
            Some(own) if !self.variant.is_empty() && own.variant != self.variant => None,
            Some(own) => own.fits(&self.architecture).map(|fit| fit + 1),
        };
        let fitting = descriptors.iter().rev().filter(|d| fits(d).is_some());
        fitting.max_by_key(|d| fits(d)).ok_or_else(|| {
            let all = descriptors.iter().filter_map(|d| d.platform.as_ref());
            let all: Vec<_> = all
                .map(|p| format!("{}/{}", p.os, p.architecture))
                .collect();
            bad(
                "platform",
                format!(
                    "it has no image for linux/{}, only for {}",
                    self.architecture,
                    all.join(", ").escape_debug()
                ),
            )
        })
    }

    /// How well an image for this platform fits a machine of `architecture`: the higher the better, or not at all.
    pub fn fits(&self, architecture: &str) -> Option<u32> {
        if self.os != "linux" || self.architecture != architecture {
            return None;
        }
        // A higher variant of amd64 may need instructions that are not there; of arm64 there is only v8.
        Some(match self.variant.as_str() {
            "" | "v1" => 3,
            "v8" => 2,
            _ => 1,
        })
    }
}

/// Reads a document.
pub(super) fn parse<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| bad("manifest", format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_document_is_one_thing() {
        let descriptor = format!(r#"{{"mediaType":"{CONFIG}","digest":"{DIGEST}","size":0}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(matches!(
            Document::parse(MANIFEST, manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        assert!(Document::parse(INDEX, manifest.as_bytes()).is_err());
        assert!(Document::parse("text/plain", manifest.as_bytes()).is_err());
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(
            Document::parse("", index.as_bytes()),
            Ok(Document::Index(_))
        ));
        let both =
            format!(r#"{{"schemaVersion":2,"manifests":[],"config":{descriptor},"layers":[]}}"#);
        for said in [INDEX, MANIFEST, ""] {
            let error = Document::parse(said, both.as_bytes()).err().unwrap();
            assert!(error.to_string().contains("at once"), "{error}");
        }
        let artifact = manifest.replace(CONFIG, "application/vnd.example.sbom");
        assert!(Document::parse(MANIFEST, artifact.as_bytes()).is_err());
        let lie = manifest.replace(DIGEST, "sha256:../../../etc/passwd");
        assert!(Document::parse(MANIFEST, lie.as_bytes()).is_err());
    }

    #[test]
    fn platforms() {
        let platform = |os: &str, architecture: &str, variant: &str| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
        };
        assert!(platform("windows", "amd64", "").fits("amd64").is_none());
        assert!(platform("unknown", "unknown", "").fits("amd64").is_none());
        assert!(platform("linux", "arm64", "v8").fits("amd64").is_none());
        assert!(
            platform("linux", "amd64", "").fits("amd64")
                > platform("linux", "amd64", "v3").fits("amd64")
        );
    }
}
