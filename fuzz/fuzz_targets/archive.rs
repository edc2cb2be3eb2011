#![no_main]
use std::cell::LazyCell;
use stockade::fuzzing::Images;

thread_local! {
    static IMAGES: LazyCell<Images> = LazyCell::new(|| Images::new(&stockade_fuzz::directory()));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| IMAGES.with(|images| images.archive(data)));
