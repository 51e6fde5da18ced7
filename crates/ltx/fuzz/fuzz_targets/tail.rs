#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| walstream_ltx_fuzz::tail(data));
