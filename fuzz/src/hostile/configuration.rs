//! Files and connection strings that a person might have written.

use pg::Params;
use pg::params::Environment;

use crate::config::{Layers, Needs, Settings, fields};
use crate::connector::{Properties, SOURCE, apply};

/// The first byte says what kind of text the rest is.
pub fn config(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    if kind % 3 == 0
        && let Ok(properties) = Properties::parse("file", text, &|_| None)
    {
        let _ = properties.transforms();
        let _ = apply(&properties, &[SOURCE]);
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind % 3 {
        1 => {
            if let Ok(params) = Params::parse_with(text, &Environment::of(&[], None, "me")) {
                let _ = params.display();
            }
        }
        2 => {
            let known = fields();
            let mut layers = Layers::default();
            layers.add_text("file", text);
            layers.refuse_unknown(&known);
            if let Ok(settings) = Settings::read(&layers, Needs::Nothing) {
                let _ = settings.to_record();
            }
        }
        _ => {}
    }
}
