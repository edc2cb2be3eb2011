//! The contents of cgroup files, as they come behind a report of the supervisor's.

use crate::plan::read_of;

/// The contents of `count` files, each with its length in front; `None` for one that could not be read. What is cut off
/// is left out.
pub(crate) fn split_reads(mut bytes: &[u8], count: usize) -> Vec<Option<&[u8]>> {
    let mut reads = Vec::new();
    for _ in 0..count {
        let Some(len) = read_of::<u32>(bytes) else {
            break;
        };
        bytes = &bytes[4..];
        match len {
            u32::MAX => reads.push(None),
            len => {
                let (content, rest) = bytes.split_at((len as usize).min(bytes.len()));
                reads.push(Some(content));
                bytes = rest;
            }
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_left_out() {
        let read = |text: &[u8]| [&(text.len() as u32).to_ne_bytes()[..], text].concat();
        let none = u32::MAX.to_ne_bytes();
        let bytes = [&read(b"5\n")[..], &none, &read(b"")].concat();
        let all = [Some(&b"5\n"[..]), None, Some(b"")];
        assert_eq!(split_reads(&bytes, 3), all);
        assert_eq!(split_reads(&bytes, 2), all[..2]);
        // A number that nothing is behind: neither memory nor time are spent on it.
        assert_eq!(split_reads(&bytes, usize::MAX), all);
        assert_eq!(split_reads(&bytes[..5], 3), [Some(&b"5"[..])]);
        assert_eq!(split_reads(&bytes[..3], 3), []);
    }
}
