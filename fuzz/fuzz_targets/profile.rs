#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| stockade::fuzzing::profile(text));
