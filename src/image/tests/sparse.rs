//! Files with holes, and what an archive has of them.

use super::super::tar::{Archive, Entry, Kind};
use super::super::tar_write::Builder;
use crate::sparse::{Data, PIECES_MAX, pieces};
use std::fs::File;
use std::os::unix::fs::FileExt;

fn of(file: &File) -> nix::Result<Option<Vec<(u64, u64)>>> {
    let stat = nix::sys::stat::fstat(file)?;
    pieces(file, stat.st_size as u64, stat.st_blocks as u64)
}

#[test]
fn holes_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"far", 1 << 30).unwrap();
    file.write_all_at(b"end", (1 << 40) - 3).unwrap();
    let pieces = of(&file).unwrap().expect("it has holes");
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    let mut entry = Entry::plain(b"a/file", Kind::File, 0o600, 1 << 40);
    entry.pieces = Some(pieces.clone());
    let mut builder = Builder::new(Vec::new());
    builder
        .append(&entry, &mut Data::new(&file, pieces.clone()))
        .unwrap();
    builder.append_bytes("next", b"x").unwrap();
    let tar = builder.finish().unwrap();
    assert!(tar.len() < 1 << 17, "{}", tar.len());
    let mut archive = Archive::new(&tar[..]);
    let again = archive.next().unwrap().unwrap();
    assert_eq!(
        (again.path, again.size, again.pieces),
        (b"a/file".to_vec(), 1 << 40, Some(pieces))
    );
    assert_eq!(archive.next().unwrap().unwrap().path, b"next");
}

#[test]
fn a_file_of_nothing_but_a_hole() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 30).unwrap();
    assert_eq!(of(&file).unwrap(), Some(vec![(1 << 30, 0)]));
    file.write_all_at(&vec![1; 1 << 16], 0).unwrap();
    file.set_len(1 << 16).unwrap();
    assert_eq!(of(&file).unwrap(), None);
}

#[test]
fn very_many_holes_become_fewer() {
    let file = tempfile::tempfile().unwrap();
    let page = 4096;
    for i in 0..12_000u64 {
        file.write_all_at(b"x", i * 2 * page).unwrap();
    }
    let found = of(&file).unwrap();
    assert!(found.is_none_or(|found| found.len() <= PIECES_MAX));
}
