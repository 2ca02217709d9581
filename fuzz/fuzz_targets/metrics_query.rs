//! See `fast_ingest::testing::fuzzing::metrics_query`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fast_ingest::testing::fuzzing::metrics_query(data));
