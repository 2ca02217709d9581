//! See `fast_ingest::fuzzing::segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fast_ingest::fuzzing::segment(data));
