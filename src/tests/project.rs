//! The project itself: its gates, its plan, its quick start, its planted bugs.

mod build_script;
mod gates;
mod mutants_apply;
mod plan;
mod quick_start;
mod torture_briefly;
