//! Series of points → an SVG with axes, lines and a legend.

use std::fmt::Write as _;

use super::escape;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
const LEGEND_LINE: f64 = 17.0;
const TICKS: f64 = 5.0;
const COLORS: [&str; 8] = ["#1f6feb", "#d1541f", "#2c8a3d", "#8a3fc0", "#b58900", "#0a8f96", "#c2266b", "#5c6670"];

pub struct Axis {
    pub label: &'static str,
    pub logarithmic: bool,
    /// Between ticks; `None`: what gives a few round ones.
    pub step: Option<f64>,
    /// What a tick is called.
    pub name: fn(f64) -> String,
}

pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
    pub dots: bool,
}

pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

/// From values to a place on the page.
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Plot {
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Scale::new(&self.x, points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(&self.y, points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let shown: Vec<&Series> = self.series.iter().filter(|series| !series.points.is_empty()).collect();
        let height = HEIGHT + LEGEND_LINE * shown.len() as f64;
        let title = escape(&self.title);
        let mut svg = format!(
            "<figure><figcaption>{title}</figcaption><svg width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\" aria-label=\"{title}\">\n"
        );
        self.grid(&x, &y, &mut svg);
        // Lines of one run, the plain and the dashed one, have one colour.
        let mut color = 0;
        for (at, series) in shown.into_iter().enumerate() {
            color += usize::from(at > 0 && !series.dashed);
            draw(series, COLORS[color % COLORS.len()], (&x, &y), at, &mut svg);
        }
        svg.push_str("</svg></figure>\n");
        svg
    }

    fn grid(&self, x: &Scale, y: &Scale, svg: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in &x.ticks {
            let (at, name) = (x.place(*tick), (self.x.name)(*tick));
            let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#dde\"/>");
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", bottom + 16.0);
        }
        for tick in &y.ticks {
            let (at, name) = (y.place(*tick), (self.y.name)(*tick));
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#dde\"/>");
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 6.0, at + 4.0);
        }
        let _ = writeln!(svg, "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", bottom + 32.0, self.x.label);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT + 4.0, TOP + 12.0, self.y.label);
    }
}

fn draw(series: &Series, color: &str, (x, y): (&Scale, &Scale), at: usize, svg: &mut String) {
    let dash = if series.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
    let mut path = String::new();
    for (number, (left, up)) in series.points.iter().enumerate() {
        let (left, up) = (x.place(*left), y.place(*up));
        let _ = write!(path, "{}{left:.1} {up:.1}", if number == 0 { 'M' } else { 'L' });
        if series.dots {
            let _ = writeln!(svg, "<circle cx=\"{left:.1}\" cy=\"{up:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"{dash}/>");
    let line = HEIGHT + LEGEND_LINE * at as f64 + 4.0;
    let _ = writeln!(svg, "<path d=\"M{LEFT} {line:.1}h24\" stroke=\"{color}\" stroke-width=\"2\"{dash}/>");
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT + 32.0, line + 4.0, escape(&series.name));
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        // A logarithm has no zero.
        let usable = values.filter(|value| value.is_finite() && (!axis.logarithmic || *value > 0.0));
        let (least, most) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (least, most) = if least <= most { (least, most) } else { (1.0, 1.0) };
        let logarithmic = axis.logarithmic;
        let ticks: Vec<f64> = if logarithmic {
            let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
            (first..=last.max(first + 1)).map(|power| 10f64.powi(power)).collect()
        } else {
            let step = axis.step.unwrap_or_else(|| step(most - least.min(0.0)));
            let (first, last) = ((least.min(0.0) / step).floor() as i64, (most / step).ceil() as i64);
            (first..=last.max(first + 1)).map(|number| number as f64 * step).collect()
        };
        Scale { logarithmic, low: ticks[0], high: ticks[ticks.len() - 1], from, to, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let inner = |value: f64| if self.logarithmic { value.max(self.low).log10() } else { value };
        let share = (inner(value) - inner(self.low)) / (inner(self.high) - inner(self.low));
        self.from + (self.to - self.from) * share
    }
}

/// A round distance between ticks: 1, 2 or 5 times a power of ten.
fn step(range: f64) -> f64 {
    let rough = (range / TICKS).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let axis = |logarithmic| Axis { label: "", logarithmic, step: None, name: |value| value.to_string() };
        let ticks = |logarithmic, values: &[f64]| Scale::new(&axis(logarithmic), values.iter().copied(), 0.0, 100.0).ticks;
        assert_eq!(ticks(false, &[3.0, 47.0]), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(ticks(true, &[0.0, 0.3, 42.0]), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(ticks(true, &[1.0]), [1.0, 10.0]);
        assert_eq!(ticks(false, &[]).len(), 6);
        let scale = Scale::new(&axis(true), [1.0, 100.0].into_iter(), 0.0, 100.0);
        assert_eq!([0.0, 1.0, 10.0, 100.0].map(|value| scale.place(value)), [0.0, 0.0, 50.0, 100.0]);
    }
}
