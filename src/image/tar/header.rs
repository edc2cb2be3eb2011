//! The fields of a header.

use super::BLOCK;
use crate::error::Error;
use crate::image::bad;

pub(super) fn field(block: &[u8], at: usize, length: usize) -> &[u8] {
    &block[at..at + length]
}

pub(super) fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|&b| b == 0) {
        text.truncate(end);
    }
    text
}

pub(super) fn short_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(field(header, 0, 100).to_vec());
    // Only POSIX's own format has a prefix there; GNU's has times.
    let prefix = match &header[257..265] == b"ustar\x0000" {
        true => until_nul(field(header, 345, 155).to_vec()),
        false => Vec::new(),
    };
    match prefix.is_empty() {
        true => name,
        false => [&prefix[..], b"/", &name].concat(),
    }
}

/// A number of a header: octal digits, or GNU's base 256 if the first bit is set.
pub(super) fn signed(text: &[u8], name: &str) -> Result<i64, Error> {
    let wrong = || {
        bad(
            "format",
            format!("a header has no valid {name}: `{}`", text.escape_ascii()),
        )
    };
    if text[0] & 0x80 != 0 {
        let negative = text[0] & 0x40 != 0;
        let mut value: i128 = i128::from(text[0] & 0x3f) - if negative { 0x40 } else { 0 };
        for &byte in &text[1..] {
            value = value
                .checked_mul(256)
                .and_then(|v| v.checked_add(i128::from(byte)))
                .ok_or_else(wrong)?;
        }
        return i64::try_from(value).map_err(|_| wrong());
    }
    let digits = text.trim_ascii_start();
    let end = digits
        .iter()
        .position(|&b| b == 0 || b == b' ')
        .unwrap_or(digits.len());
    if digits[end..].iter().any(|&b| b != 0 && b != b' ') {
        return Err(wrong());
    }
    let mut value: i64 = 0;
    for &digit in &digits[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(wrong());
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(wrong)?;
    }
    Ok(value)
}

pub(super) fn number(text: &[u8], name: &str) -> Result<u64, Error> {
    u64::try_from(signed(text, name)?)
        .map_err(|_| bad("format", format!("a header has a negative {name}")))
}

pub(super) fn check_sum(header: &[u8; BLOCK]) -> Result<(), Error> {
    let no_archive = "it is no tar archive, or a header is damaged (wrong checksum)";
    let said = signed(field(header, 148, 8), "checksum").map_err(|_| bad("format", no_archive))?;
    let bytes = || {
        header.iter().enumerate().map(|(i, &b)| match i {
            148..156 => b' ',
            _ => b,
        })
    };
    let sum: i64 = bytes().map(i64::from).sum();
    // Some old writers summed signed characters.
    let old: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    match said == sum || said == old || cfg!(fuzzing) {
        true => Ok(()),
        false => Err(bad("format", no_archive)),
    }
}
