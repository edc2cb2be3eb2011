//! What an image says about itself.

use super::append::Note;
use super::{Digest, bad};
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The configuration of an image, as the OCI image specification and Docker write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct ImageConfig {
    /// The processor's architecture, in Go's words (`amd64`, `arm64`).
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// The operating system: `linux`.
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// When it was made, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How its programs want to be run.
    #[serde(deserialize_with = "or_default")]
    pub config: Config,
    /// Its layers.
    #[serde(deserialize_with = "or_default")]
    pub(super) rootfs: RootFs,
    /// What made each layer.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<Value>,
    /// What else is there, kept for those who know it.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// The defaults with which an image's programs are run, in the words of a Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// User, or `user:group`, by name or number; empty for root.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports that it listens on: `"80/tcp"`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub exposed_ports: Vec<String>,
    /// Variables, `NAME=VALUE`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The program if there is no entry point, else its arguments.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose contents are not part of the image once it runs.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub volumes: Vec<String>,
    /// The working directory.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to end: `"SIGTERM"`, `"15"`; empty for SIGTERM.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// What else is there, kept for those who know it.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// The layers of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration.
    pub(super) fn parse(json: &[u8]) -> Result<ImageConfig, Error> {
        serde_json::from_slice(json)
            .map_err(|error| bad("config", format!("the image's configuration: {error}")))
    }

    /// One without layers, for this machine.
    pub(super) fn empty() -> ImageConfig {
        ImageConfig {
            architecture: architecture().into(),
            os: "linux".into(),
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: Vec::new(),
            },
            ..ImageConfig::default()
        }
    }

    /// Adds a layer, if there is one, and a line of history.
    pub(super) fn push(&mut self, diff_id: Option<Digest>, created: &str, note: &Note<'_>) {
        let mut line = serde_json::json!({ "created": created, "created_by": note.by });
        for (key, text) in [("author", note.author), ("comment", note.comment)] {
            if !text.is_empty() {
                line[key] = text.into();
            }
        }
        self.rootfs.kind = "layers".into();
        match diff_id {
            Some(diff_id) => self.rootfs.diff_ids.push(diff_id),
            None => line["empty_layer"] = true.into(),
        }
        self.created = Some(created.into());
        self.history.push(line);
    }

    /// Its JSON, always the same for the same value.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers only")
    }
}

/// This machine's architecture in Go's words.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Go writes `null` for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's sets are objects whose values mean nothing.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(keys: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.iter().map(|key| (key, Map::new())))
}

/// Seconds since the epoch in RFC 3339.
pub(super) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, in eras of 400: then February's end is the year's.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn what_go_writes() {
        let json = br#"{"architecture":"amd64","os":"linux","variant":"v2","config":{"Env":["A=b"],"Entrypoint":null,
            "Cmd":["sh","-c","x"],"ExposedPorts":{"80/tcp":{}},"Volumes":null,"Labels":null,"OnBuild":["x"],
            "Healthcheck":{"Test":["NONE"]}},"rootfs":{"type":"layers","diff_ids":null},"history":null,"moby":1}"#;
        let config = ImageConfig::parse(json).unwrap();
        assert_eq!(config.config.cmd, ["sh", "-c", "x"]);
        assert_eq!(config.config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.config.entrypoint, [""; 0]);
        let again: Value = serde_json::from_slice(&config.to_json()).unwrap();
        assert_eq!(again["variant"], "v2");
        assert_eq!(again["config"]["OnBuild"][0], "x");
        assert_eq!(
            again["config"]["ExposedPorts"]["80/tcp"],
            serde_json::json!({})
        );
        assert_eq!(ImageConfig::parse(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn damage_is_refused() {
        for json in [
            "",
            "[]",
            "{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
            "{\"config\":{\"Env\":{}}}",
        ] {
            let error = ImageConfig::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.step(), "config", "{json}");
        }
        let deep = "[".repeat(100_000);
        assert!(ImageConfig::parse(deep.as_bytes()).is_err());
    }
}
