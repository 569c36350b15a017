#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trust_fuzz::toxiproxy_api::run(data));
