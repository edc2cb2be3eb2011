//! Byte strings that stay readable in JSON.

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes that need not be UTF-8: arguments, environment, file contents, output.
///
/// In JSON a value that is UTF-8 is a string; any other is `{"base64": "..."}` (RFC 4648, section 4, with padding).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<T: AsRef<[u8]>> From<T> for Bytes {
    fn from(value: T) -> Self {
        Bytes(value.as_ref().to_vec())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &base64(&self.0))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"base64\": \"...\"}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
                let Some((key, value)) = map.next_entry::<String, String>()? else {
                    return Err(de::Error::missing_field("base64"));
                };
                if key != "base64" || map.next_key::<String>()?.is_some() {
                    return Err(de::Error::unknown_field(&key, &["base64"]));
                }
                unbase64(&value)
                    .map(Bytes)
                    .ok_or_else(|| de::Error::custom("not valid base64"))
            }
        }
        deserializer.deserialize_any(BytesVisitor)
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk
            .iter()
            .enumerate()
            .fold(0u32, |n, (i, b)| n | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(ALPHABET[(n >> (18 - 6 * i)) as usize & 63] as char);
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for (index, chunk) in text.chunks(4).enumerate() {
        let last = (index + 1) * 4 == text.len();
        let mut n = 0u32;
        for (i, b) in chunk.iter().enumerate() {
            let digit = match ALPHABET.iter().position(|a| a == b) {
                Some(digit) => digit as u32,
                None if *b == b'=' && last && i >= 4 - padding => 0,
                None => return None,
            };
            n = n << 6 | digit;
        }
        let keep = if last { 3 - padding } else { 3 };
        out.extend_from_slice(&n.to_be_bytes()[1..1 + keep]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip() {
        for bytes in [
            &b""[..],
            b"text",
            b"\xff",
            b"\xff\x00",
            b"\xff\x00\x01",
            b"\xff\x00\x01\x02",
        ] {
            let value = Bytes::from(bytes);
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(
                serde_json::from_str::<Bytes>(&json).unwrap(),
                value,
                "{json}"
            );
        }
        assert_eq!(
            serde_json::to_string(&Bytes::from(b"\xff\xfe")).unwrap(),
            r#"{"base64":"//4="}"#
        );
        for bad in [
            r#"{"base64":"A"}"#,
            r#"{"base64":"===="}"#,
            r#"{"base64":"A=AA"}"#,
            r#"{"hex":"00"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
