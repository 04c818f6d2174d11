//! From a stream's name and a moment to the path of a file.
//!
//! The template has passed the configuration's check. Names of streams are made safe here: whatever is not a letter, a digit or one of
//! `-_.~` becomes `%XX`, a dot in front of a component too, and a component has [`COMPONENT_BYTES_MAX`] bytes at most, so a path never
//! leads out of its folder. Moments are UTC. Not here: what is done when the name is taken.

use std::fmt::Write;

use crate::protocol::common::utc::Moment;
use crate::session::StreamKey;

/// File systems take 255; there is room left for endings and for the number of a file whose name was taken.
const COMPONENT_BYTES_MAX: usize = 200;

/// The path of a file, relative to the folder and without its ending. `micros` since 1970.
pub fn path_of(template: &str, key: &StreamKey, micros: i64) -> String {
    let moment = Moment::from_micros(micros);
    let components = template.split('/').flat_map(|component| expand(component, key, &moment));
    components.collect::<Vec<_>>().join("/")
}

/// The components that one of the template makes: an app may have several.
fn expand(component: &str, key: &StreamKey, moment: &Moment) -> Vec<String> {
    let mut text = String::new();
    let mut rest = component;
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
        match name {
            "app" => text.push_str(key.app()),
            "name" => text.push_str(key.name()),
            "date" => text.push_str(&moment.date()),
            "time" => text.push_str(&moment.time().replace(':', "-")),
            "year" => text.push_str(&format!("{:04}", moment.year)),
            "month" => text.push_str(&format!("{:02}", moment.month)),
            _ => {}
        }
        rest = behind;
    }
    text.push_str(rest);
    text.split('/').map(safe).collect()
}

/// A component without anything that a file system or a shell could take for something else.
fn safe(component: &str) -> String {
    let mut out = String::with_capacity(component.len());
    for (at, c) in component.char_indices() {
        let is_plain = c.is_alphanumeric() || matches!(c, '-' | '_' | '~') || (c == '.' && at > 0);
        let start = out.len();
        if is_plain {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing into a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        if out.len() > COMPONENT_BYTES_MAX {
            out.truncate(start);
            let _ = write!(out, "~{:08x}", fnv(component));
            break;
        }
    }
    if out.is_empty() { "_".to_owned() } else { out }
}

/// FNV-1a, 32 bits: tells apart what was cut.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: i64 = 1_709_251_199_999_000;

    #[test]
    fn names_become_paths_inside_the_folder() {
        let cases = [
            ("live/a", "live/a/2024-02-29/23-59-59.999"),
            ("live/cam 1", "live/cam%201/2024-02-29/23-59-59.999"),
            ("live/north/a", "live/north/a/2024-02-29/23-59-59.999"),
            ("live/.hidden", "live/%2Ehidden/2024-02-29/23-59-59.999"),
            ("...a/b..", "%2E..a/b../2024-02-29/23-59-59.999"),
            ("live/摄像头", "live/摄像头/2024-02-29/23-59-59.999"),
            ("live/a:b*<>|\"'$`;&", "live/a%3Ab%2A%3C%3E%7C%22%27%24%60%3B%26/2024-02-29/23-59-59.999"),
        ];
        for (name, path) in cases {
            let key = StreamKey::parse(name).unwrap();
            assert_eq!(path_of("{app}/{name}/{date}/{time}", &key, MOMENT), path, "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_streams() {
        for name in
            ["../a/b", "live/..", "live/../../etc/passwd", "live/%2e%2e", "live/a\0b", "/etc/passwd", "live\\..\\a/b", "a/."]
        {
            assert!(StreamKey::parse(name).is_err(), "{name:?}");
        }
        // And if they were, they would stay inside.
        for text in ["..", ".", "", "a\0b", "a\nb"] {
            let safe = safe(text);
            assert!(!safe.starts_with('.') && !safe.is_empty() && !safe.contains(['\0', '\n', '/']), "{text:?} is {safe:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_still_differ() {
        let name = |last: char| format!("live/{}{last}", "é ".repeat(80));
        let paths: Vec<String> = ['a', 'b'].map(|c| path_of("{name}-{time}", &StreamKey::parse(&name(c)).unwrap(), 0)).into();
        assert_ne!(paths[0], paths[1]);
        for path in &paths {
            assert!(path.len() <= COMPONENT_BYTES_MAX + 9, "{}", path.len());
        }
    }

    #[test]
    fn templates_use_what_they_name() {
        let key = StreamKey::parse("live/a").unwrap();
        assert_eq!(path_of("{year}/{month}/{app}_{name}.{time}", &key, MOMENT), "2024/02/live_a.23-59-59.999");
    }
}
