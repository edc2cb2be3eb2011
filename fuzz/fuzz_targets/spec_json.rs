#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(mut plan) = stockade::fuzzing::spec(data) {
        let steps = stockade_fuzz::read_plan(&mut plan, true);
        assert!(steps > 0);
    }
});
