//! A table with room for many entries that takes up memory only for those that were ever used.

use core::mem::MaybeUninit;
use core::ops::{Index, IndexMut};

pub struct Table<T, const N: usize> {
    /// The first `len` are initialised.
    items: [MaybeUninit<Option<T>>; N],
    len: usize,
}

impl<T: Copy, const N: usize> Table<T, N> {
    pub const fn new() -> Self {
        Table {
            items: [const { MaybeUninit::uninit() }; N],
            len: 0,
        }
    }

    /// What is there, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|i| self[i].as_ref())
    }

    /// No entry is at or above this place.
    pub fn high(&self) -> usize {
        self.len
    }

    /// Forgets empty places at the end.
    pub fn trim(&mut self) {
        while self.len > 0 && self[self.len - 1].is_none() {
            self.len -= 1;
        }
    }
}

impl<T: Copy, const N: usize> Index<usize> for Table<T, N> {
    type Output = Option<T>;
    fn index(&self, place: usize) -> &Option<T> {
        if place >= self.len {
            return &None;
        }
        // SAFETY: places below len are initialised.
        unsafe { self.items[place].assume_init_ref() }
    }
}

impl<T: Copy, const N: usize> IndexMut<usize> for Table<T, N> {
    fn index_mut(&mut self, place: usize) -> &mut Option<T> {
        while self.len <= place {
            self.items[self.len].write(None);
            self.len += 1;
        }
        // SAFETY: places below len are initialised, and place now is one.
        unsafe { self.items[place].assume_init_mut() }
    }
}
