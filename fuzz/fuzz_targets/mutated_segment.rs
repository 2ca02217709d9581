//! See `fast_ingest::fuzzing::mutated_segment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fast_ingest::fuzzing::mutated_segment(data));
