//! The curves as a picture: CPU time of a job, of that with nothing, over how much there is.

use std::fmt::Write;

/// Pixels of the picture, and of its margins.
const SIZE: (f64, f64) = (720.0, 400.0);
const LEFT: f64 = 50.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 40.0;
/// What is shown at least, from bottom to top.
const RATIOS: (f64, f64) = (0.8, 1.2);
const TITLE: &str = "CPU time of a job, as a multiple of that with none of them; red: the target";
const HOW_MANY: &str = "how many of them there are";
/// Colours that those who see fewer of them tell apart, too (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// One curve.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// What there is more and more of.
    pub(super) name: &'static str,
    /// How much of it, at least one, and the ratio.
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws the curves, with a line at the target.
pub(super) fn draw(lines: &[Line], target: f64) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let decades = points().fold(1.0_f64, |most, (count, _)| most.max(count.log10().ceil()));
    let bottom = points().fold(RATIOS.0, |least, (_, ratio)| least.min(*ratio));
    let top = points().fold(RATIOS.1, |most, (_, ratio)| most.max(*ratio));
    let x = |count: f64| LEFT + count.log10() / decades * (SIZE.0 - LEFT - RIGHT);
    let y = |ratio: f64| TOP + (top - ratio) / (top - bottom) * (SIZE.1 - TOP - BOTTOM);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    let (begin, end) = (x(1.0), x(10_f64.powf(decades)));
    for (words, at) in [(TITLE, 14.0), (HOW_MANY, SIZE.1 - 4.0)] {
        // Writing to a string does not fail.
        let _never = writeln!(text, "<text x=\"{begin:.1}\" y=\"{at:.1}\">{words}</text>");
    }
    for (ratio, colour) in [
        (bottom, "black"),
        (1.0, "grey"),
        (target, "red"),
        (top, "none"),
    ] {
        let at = y(ratio);
        let _never = writeln!(
            text,
            "<path d=\"M{begin:.1} {at:.1}H{end:.1}\" stroke=\"{colour}\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ratio:.2}</text>",
            begin - 6.0,
            at + 4.0,
        );
    }
    let mut decade = 0.0;
    while decade <= decades {
        let _never = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">10<tspan dy=\"-5\" \
             font-size=\"9\">{decade:.0}</tspan></text>",
            x(10_f64.powf(decade)),
            SIZE.1 - BOTTOM + 20.0,
        );
        decade += 1.0;
    }
    let mut row = TOP + 4.0;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (count, ratio) in &line.points {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            let _never = write!(path, "{pen}{:.1} {:.1}", x(*count), y(*ratio));
        }
        let _never = writeln!(
            text,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{row:.1}\" fill=\"{colour}\">{}</text>",
            end + 12.0,
            line.name,
        );
        row += 18.0;
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_within_the_picture() {
        let lines = [("waiting", 5.0), ("groups", 0.1)].map(|(name, ratio)| Line {
            name,
            points: vec![(1.0, 1.0), (12_345.0, ratio)],
        });
        let text = draw(&lines, 1.1);
        for line in lines {
            assert!(text.contains(&format!(">{}</text>", line.name)), "{text}");
        }
        let paths = text.split("d=\"M").skip(1);
        let numbers = paths.flat_map(|path| {
            let path = path.split('"').next().unwrap_or_default();
            path.split(['L', 'H', ' '])
                .map(|number| number.parse::<f64>().unwrap())
        });
        let inside: Vec<f64> = numbers.collect();
        assert_eq!(inside.len(), 4 * 3 + 2 * 4, "{text}");
        assert!(
            inside.iter().all(|at| (0.0..=SIZE.0).contains(at)),
            "{inside:?}"
        );
    }
}
