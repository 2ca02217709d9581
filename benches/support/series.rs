//! What goes into a chart: one quantity against another.

/// A line of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// What was measured against what, with units.
    pub(crate) name: String,
    /// Each point's two values, in the order of the first.
    pub(crate) points: Vec<(f64, f64)>,
}
