//! The charts: SVG on a white ground, so that they can be read on dark pages too.

mod axis;

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use self::axis::Axis;
use crate::support::series::{Chart, Series};

const WIDTH: u32 = 820;
const PANEL_HEIGHT: u32 = 340;
/// Distinguishable in print and by people who do not see all colours.
const COLORS: [RGBColor; 2] = [RGBColor(0, 90, 181), RGBColor(213, 94, 0)];
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = Box<dyn std::error::Error>;

/// A chart that was drawn.
pub(super) struct Picture {
    /// Its file name in the report's directory.
    pub(super) file: &'static str,
    /// Caption.
    pub(super) sentence: &'static str,
}

/// A file, and what is in it from top to bottom.
struct Plan {
    file: &'static str,
    sentence: &'static str,
    panels: &'static [Panel],
}

struct Panel {
    chart: Chart,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    x_is_logarithmic: bool,
    y_is_logarithmic: bool,
}

const PLANS: [Plan; 3] = [
    Plan {
        file: "connections.svg",
        sentence: "Single events: throughput of fast-ingest and of a bare hyper server, and latency of fast-ingest, by connections.",
        panels: &[
            Panel {
                chart: Chart::Throughput,
                title: "Throughput, single events",
                x: "connections",
                y: "requests a second",
                x_is_logarithmic: true,
                y_is_logarithmic: false,
            },
            Panel {
                chart: Chart::Latency,
                title: "Latency, single events, each connection at full speed",
                x: "connections",
                y: "time to the 202 (ms)",
                x_is_logarithmic: true,
                y_is_logarithmic: true,
            },
        ],
    },
    Plan {
        file: "backlog.svg",
        sentence: "CPU of the flush thread for each flushed event, by how much waits in the log.",
        panels: &[Panel {
            chart: Chart::Backlog,
            title: "Cost of a flushed event, by backlog",
            x: "backlog (GB)",
            y: "CPU of the flush thread (µs an event)",
            x_is_logarithmic: false,
            y_is_logarithmic: false,
        }],
    },
    Plan {
        file: "growth.svg",
        sentence: "CPU of server and database for each stored event, by how many are stored.",
        panels: &[Panel {
            chart: Chart::Growth,
            title: "Cost of a stored event, by rows stored",
            x: "rows stored",
            y: "CPU (µs an event)",
            x_is_logarithmic: true,
            y_is_logarithmic: false,
        }],
    },
];

/// Draws the charts that have points.
pub(super) fn draw_all(directory: &Path, series: &[Series]) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for plan in &PLANS {
        let has_points = |panel: &Panel| !points_of(panel.chart, series).is_empty();
        if plan.panels.iter().all(has_points) {
            let file = directory.join(plan.file);
            draw(&file, plan, series).expect("the directory for the report is there");
            pictures.push(Picture {
                file: plan.file,
                sentence: plan.sentence,
            });
        }
    }
    pictures
}

fn points_of(chart: Chart, series: &[Series]) -> Vec<(f64, f64)> {
    let lines = series.iter().filter(|line| line.chart == chart);
    lines.flat_map(|line| line.points.iter().copied()).collect()
}

fn draw(file: &Path, plan: &Plan, series: &[Series]) -> Result<(), DrawError> {
    let height = PANEL_HEIGHT * u32::try_from(plan.panels.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((plan.panels.len(), 1)).iter().zip(plan.panels) {
        draw_panel(area, panel, series)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: &Panel, series: &[Series]) -> Result<(), DrawError> {
    let points = points_of(panel.chart, series);
    let xs: Vec<_> = points.iter().map(|&(x, _)| x).collect();
    let ys: Vec<_> = points.iter().map(|&(_, y)| y).collect();
    // The x axis marks the measured values.
    let x_axis = Axis::marking(&xs, panel.x_is_logarithmic);
    let y_axis = Axis::covering(&ys, panel.y_is_logarithmic);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, (FONT, 24))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(52)
        .y_label_area_size(80)
        .build_cartesian_2d(x_axis, y_axis)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(panel.x)
        .y_desc(panel.y)
        .label_style((FONT, 16))
        .axis_desc_style((FONT, 18))
        .draw()?;
    let lines = series.iter().filter(|line| line.chart == panel.chart);
    for (line, color) in lines.zip(COLORS.iter().cycle()) {
        let points = line.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(4))?
            .label(line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font((FONT, 17))
        .draw()?;
    Ok(())
}
