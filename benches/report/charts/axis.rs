//! Axes with marks at measured values or at round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::support::table::Figure;

/// Approximate number of marks of a linear axis.
const MARKS: f64 = 6.0;
/// Space beyond the outermost points, as a share of the axis.
const MARGIN: f64 = 0.05;

/// The x or y axis of a chart.
pub(super) struct Axis {
    is_logarithmic: bool,
    /// From one end to the other.
    range: Range<f64>,
    /// Values that have a label.
    marks: Vec<f64>,
}

impl Axis {
    /// An axis with a mark at each of the values.
    pub(super) fn marking(values: &[f64], is_logarithmic: bool) -> Self {
        let mut marks = values.to_vec();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        Self {
            is_logarithmic,
            range: widened(values, is_logarithmic),
            marks,
        }
    }

    /// An axis that covers the values, with round numbers as marks; a linear one begins at 0.
    pub(super) fn covering(values: &[f64], is_logarithmic: bool) -> Self {
        if is_logarithmic {
            let range = widened(values, is_logarithmic);
            let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
            let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
            return Self {
                is_logarithmic,
                marks: marks.filter(|mark| range.contains(mark)).collect(),
                range,
            };
        }
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let step = round_up(most / MARKS);
        // The last mark is above all points.
        let steps = (most / step).floor() as u32 + 1;
        Self {
            is_logarithmic,
            range: 0.0..step * f64::from(steps),
            marks: (0..=steps).map(|mark| step * f64::from(mark)).collect(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let place = |value| scaled(value, self.is_logarithmic);
        let (start, end) = (place(self.range.start), place(self.range.end));
        let share = (place(*value) - start) / (end - start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        if *value >= 1e6 {
            return format!("{} million", (value / 1e6).round());
        }
        let text = Figure(*value).to_string();
        match text.split_once('.') {
            Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            None => text,
        }
    }
}

fn scaled(value: f64, is_logarithmic: bool) -> f64 {
    if is_logarithmic { value.log10() } else { value }
}

/// From the least value to the largest one, and a little more.
fn widened(values: &[f64], is_logarithmic: bool) -> Range<f64> {
    let places = || values.iter().map(|&value| scaled(value, is_logarithmic));
    let (least, most) = (
        places().fold(f64::INFINITY, f64::min),
        places().fold(f64::NEG_INFINITY, f64::max),
    );
    // A single point has no width to take a share of.
    let margin = ((most - least) * MARGIN).max(0.01);
    let (start, end) = (least - margin, most + margin);
    if is_logarithmic {
        10_f64.powf(start)..10_f64.powf(end)
    } else {
        start..end
    }
}

/// The value rounded up to 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0].into_iter();
    let fits = digits.map(|digit| digit * power).find(|&round| round >= value);
    fits.unwrap_or(10.0 * power)
}
