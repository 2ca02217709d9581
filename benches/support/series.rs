//! The data of a chart: one quantity against another.

/// The chart that a line belongs to. Lines of one chart share its axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chart {
    /// Requests a second, by connections.
    Throughput,
    /// Time to the answer in milliseconds, by connections.
    Latency,
    /// CPU of server and database for a stored event in microseconds, by rows stored.
    Growth,
    /// CPU of the flush thread for a flushed event in microseconds, by gigabytes of backlog.
    Backlog,
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) chart: Chart,
    /// Label in the legend.
    pub(crate) name: &'static str,
    /// The points (x, y), sorted by x.
    pub(crate) points: Vec<(f64, f64)>,
}
