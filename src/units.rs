//! Sizes and durations as people write them: `"256m"`, `"500ms"`.

use crate::error::{Error, ErrorKind};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Parses a size: digits and one of the units `b k m g t` (or `kb mb gb tb`, `kib mib gib tib`), any case.
///
/// All units are binary, as Docker's are: `"256m"` is 268,435,456 bytes. A bare number means bytes.
/// A fraction, a sign, or another unit is an [`ErrorKind::InvalidArgument`].
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => {
            return Err(bad(
                text,
                "a size is digits and one of b, k, m, g, t, as in \"256m\"",
            ));
        }
    };
    let number: u64 = number.parse().map_err(|_| {
        bad(
            text,
            "a size is digits and one of b, k, m, g, t, as in \"256m\"",
        )
    })?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| bad(text, "the size does not fit in 64 bits"))
}

/// The number of a signal (signal(7)) from its name or number as Docker writes them: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub fn parse_signal(text: &str) -> Result<i32, Error> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |first: i32, by: &str| match by.parse::<i32>() {
        Ok(by) => first.checked_add(by),
        Err(_) => by.is_empty().then_some(first),
    };
    let number = if let Some(by) = name.strip_prefix("RTMIN") {
        real_time(libc::SIGRTMIN(), by)
    } else if let Some(by) = name.strip_prefix("RTMAX") {
        real_time(libc::SIGRTMAX(), by)
    } else if let Ok(number) = name.parse() {
        Some(number)
    } else {
        let named = format!("SIG{name}").parse::<nix::sys::signal::Signal>();
        named.ok().map(|signal| signal as i32)
    };
    number
        .filter(|number| (1..=64).contains(number))
        .ok_or_else(|| {
            bad(
                text,
                "a signal is a name or a number from 1 to 64, as in \"SIGINT\"",
            )
        })
}

/// Parses a duration: a decimal number and one of the units `ns us ms s m h`.
///
/// The unit is required (a bare number in a string is ambiguous and refused).
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let (number, unit) = split(text);
    let scale: f64 = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(bad(
                text,
                "a duration is a number and one of ns, us, ms, s, m, h, as in \"500ms\"",
            ));
        }
    };
    let number: f64 = number.parse().map_err(|_| {
        bad(
            text,
            "a duration is a number and one of ns, us, ms, s, m, h",
        )
    })?;
    seconds(number * scale).ok_or_else(|| bad(text, "the duration is out of range"))
}

/// A number of seconds as a [`Duration`]; `None` if it is negative, not finite or too large.
pub fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    (&text[..end], &text[end..])
}

fn bad(text: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("`{text}`: {why}"))
}

/// Serde for `Option<u64>` sizes: a number of bytes, or a string that [`parse_size`] takes.
pub(crate) mod size {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Option<u64>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a string such as \"256m\"")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<u64>, E> {
                Ok(Some(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<u64>, E> {
                Err(E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<u64>, E> {
                parse_size(text).map(Some).map_err(E::custom)
            }
            fn visit_none<E: de::Error>(self) -> Result<Option<u64>, E> {
                Ok(None)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Option<u64>, E> {
                Ok(None)
            }
            fn visit_some<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Option<u64>, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Serde for `Option<Duration>`: a number of seconds, or a string that [`parse_duration`] takes.
pub(crate) mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|d| d.as_secs_f64()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Seconds(f64),
            Text(String),
        }
        match Option::<Value>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Value::Seconds(value)) => seconds(value)
                .map(Some)
                .ok_or_else(|| de::Error::custom(format!("`{value}` is not a number of seconds"))),
            Some(Value::Text(text)) => parse_duration(&text).map(Some).map_err(de::Error::custom),
        }
    }
}

/// Serde for a plain [`Duration`] in results: seconds.
pub(crate) mod duration_seconds {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let value = f64::deserialize(deserializer)?;
        seconds(value).ok_or_else(|| de::Error::custom("not a number of seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256m").unwrap(), 256 << 20);
        assert_eq!(parse_size("1GiB").unwrap(), 1 << 30);
        assert_eq!(parse_size("0").unwrap(), 0);
        for bad in ["", "m", "1.5g", "-1", "1x", "99999999999t", "1 m"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        for bad in ["", "1", "s", "-1s", "1x", "1.2.3s", "1 s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
