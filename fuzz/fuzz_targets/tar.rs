#![no_main]
use std::cell::LazyCell;
use stockade::fuzzing::Place;

thread_local! {
    static PLACE: LazyCell<Place> = LazyCell::new(|| Place::new(stockade_fuzz::directory()));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| PLACE.with(|place| place.tar(data)));
