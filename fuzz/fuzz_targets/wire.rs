#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stockade_fuzz::read_plan(&mut data.to_vec(), false);
});
