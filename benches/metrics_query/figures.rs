//! The table that comes out, each figure with its target.

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Good to know.
    None,
}

/// One line.
struct Figure {
    store: &'static str,
    events: u64,
    name: String,
    value: f64,
    unit: &'static str,
    bound: Bound,
}

/// All lines.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a line, and shows at once that it is there: the table comes at the end of many minutes.
    pub(crate) fn add(
        &mut self,
        store: &'static str,
        events: u64,
        name: &str,
        value: f64,
        unit: &'static str,
        bound: Bound,
    ) {
        eprintln!("{store}, {events} events: {name}: {value:.2} {unit}");
        self.0.push(Figure {
            store,
            events,
            name: name.to_owned(),
            value,
            unit,
            bound,
        });
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let build = if cfg!(debug_assertions) {
            "DEBUG BUILD: no figure counts"
        } else {
            "release build"
        };
        println!("\n{cores} cores, {build}, syncs on, databases as they come\n");
        println!(
            "| {:10} | {:>11} | {:52} | {:>14} | target",
            "store", "events", "figure", "measured"
        );
        println!("|{:-<12}|{:->13}|{:-<54}|{:->16}|-------", "", "", "", "");
        for figure in &self.0 {
            let (target, missed) = match figure.bound {
                Bound::AtMost(limit) => {
                    (format!("≤ {limit} {}", figure.unit), figure.value > limit)
                }
                Bound::AtLeast(limit) => {
                    (format!("≥ {limit} {}", figure.unit), figure.value < limit)
                }
                Bound::None => (String::new(), false),
            };
            println!(
                "| {:10} | {:>11} | {:52} | {:>10.2} {:3} | {target}{}",
                figure.store,
                figure.events,
                figure.name,
                figure.value,
                figure.unit,
                if missed { "  MISSED" } else { "" }
            );
        }
    }
}
