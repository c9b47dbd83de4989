//! The text of a value, so that equal values have equal text on both servers.
//!
//! Under the pinned settings the output functions agree between 10 and 18, with these exceptions, which are compared in their send
//! form as hexadecimal, wherever they stand in an array, a composite, a domain or a range:
//!
//! - `float4`, `float8` and the geometric types print up to 18 digits before 12 and the shortest exact form since;
//! - `"char"` beyond ASCII prints as a raw byte before 16 and as `\ooo` since.
//!
//! Where the two columns' types differ, the target's value is what its type makes of the source's text, since that is how it got
//! there. So the source converts its text to the target's type ([`Conversion`]) and prints that.
//! <https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-FLOAT>

use super::types::{Shape, Type, Types};

/// Which types must be compared in their send form, because the two majors print them differently.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    floats: bool,
    chars: bool,
}

impl Sent {
    #[must_use]
    pub fn between(one_major: u32, other_major: u32) -> Sent {
        Sent { floats: (one_major < 12) != (other_major < 12), chars: (one_major < 16) != (other_major < 16) }
    }

    fn function(self, r#type: &Type) -> Option<String> {
        if !r#type.is_builtin() {
            return None;
        }
        match r#type.name.as_str() {
            "float4" | "float8" if self.floats => Some(format!("{}send", r#type.name)),
            name @ ("point" | "lseg" | "box" | "path" | "polygon" | "line" | "circle") if self.floats => {
                Some(format!("{name}_send"))
            }
            "char" if self.chars => Some("charsend".to_owned()),
            _ => None,
        }
    }

    /// Whether a value of this type has to be taken apart.
    fn concerns(self, oid: u32, types: &Types, depth: u32) -> bool {
        let Some(r#type) = types.get(oid) else { return false };
        if depth > MAX_DEPTH {
            return false;
        }
        match &r#type.shape {
            Shape::Plain => self.function(r#type).is_some(),
            Shape::Domain { base: part, .. }
            | Shape::Array { element: part }
            | Shape::Range { bound: part } => self.concerns(*part, types, depth + 1),
            Shape::Composite { fields } => {
                fields.iter().any(|(_, oid)| self.concerns(*oid, types, depth + 1))
            }
        }
    }

    /// An expression whose text is the same on both sides for equal values. `value` is evaluated several times.
    #[must_use]
    pub fn comparable(self, value: &str, oid: u32, types: &Types) -> String {
        self.nested(value, oid, types, 0)
    }

    fn nested(self, value: &str, oid: u32, types: &Types, depth: u32) -> String {
        let Some(r#type) = types.get(oid) else { return value.to_owned() };
        if !self.concerns(oid, types, depth) {
            return value.to_owned();
        }
        match &r#type.shape {
            Shape::Plain => {
                let Some(send) = self.function(r#type) else { return value.to_owned() };
                let sent = format!("encode({send}({value}), 'hex')");
                // There are many bit patterns of NaN; a copy as text keeps one.
                if send.starts_with("float") {
                    return format!("(CASE WHEN {value} = 'NaN' THEN 'NaN' ELSE {sent} END)");
                }
                sent
            }
            Shape::Domain { base, .. } => self.nested(value, *base, types, depth + 1),
            Shape::Array { element } => {
                let item = format!("v{depth}");
                let inner = self.nested(&item, *element, types, depth + 1);
                format!(
                    "(CASE WHEN {value} IS NULL THEN NULL ELSE coalesce(array_dims({value}), '') || \
                     (SELECT coalesce(array_agg({inner})::text, '') FROM (SELECT unnest({value}) AS {item}) AS u{depth}) END)"
                )
            }
            Shape::Composite { fields } => {
                let inner: Vec<String> = fields
                    .iter()
                    .map(|(name, oid)| {
                        self.nested(&format!("({value}).{}", pg::quote_ident(name)), *oid, types, depth + 1)
                    })
                    .collect();
                // A row of NULLs "is null", but is distinct from NULL.
                format!(
                    "(CASE WHEN {value} IS NOT DISTINCT FROM NULL THEN NULL ELSE ROW({})::text END)",
                    inner.join(", ")
                )
            }
            Shape::Range { bound } => {
                let lower = self.nested(&format!("lower({value})"), *bound, types, depth + 1);
                let upper = self.nested(&format!("upper({value})"), *bound, types, depth + 1);
                format!(
                    "(CASE WHEN {value} IS NULL THEN NULL ELSE ROW(isempty({value}), lower_inc({value}), upper_inc({value}), \
                     {lower}, {upper})::text END)"
                )
            }
        }
    }
}

/// A type can contain itself through an array of its own table's rows.
const MAX_DEPTH: u32 = 5;

/// How two columns of different types become comparable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conversion {
    /// The text of both, as it is.
    None,
    /// Without trailing blanks, on both sides: `char(n)` against anything else.
    Trimmed,
    /// The source's text becomes a value of the target's type first. In SQL, with its modifier.
    ToTarget { r#type: String },
}

impl Conversion {
    /// Both types without domains. `formatted` is the target's type with its modifier.
    #[must_use]
    pub fn between(source: (&Type, i32), target: (&Type, i32), formatted: &str) -> Conversion {
        let same_type = source.0.schema == target.0.schema && source.0.name == target.0.name;
        if same_type && source.1 == target.1 {
            return Conversion::None;
        }
        let name = target.0.name.trim_start_matches('_');
        if source.0.name == "bpchar" || target.0.name == "bpchar" {
            return Conversion::Trimmed;
        }
        // A cast would cut what is too long, and so hide that the target has lost it. What is not built in may be unknown here.
        if !target.0.is_builtin() || matches!(name, "text" | "varchar" | "bpchar" | "bit" | "varbit" | "name")
        {
            return Conversion::None;
        }
        // The other modifiers don't change the text.
        let scaled = matches!(name, "numeric" | "timestamp" | "timestamptz" | "time" | "timetz" | "interval");
        if same_type && (!scaled || target.1 == -1) {
            return Conversion::None;
        }
        Conversion::ToTarget { r#type: formatted.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str) -> Type {
        Type { schema: "pg_catalog".into(), name: name.into(), shape: Shape::Plain, equality: None }
    }

    #[test]
    fn floats_are_sent_only_across_12() {
        let types = Types::of([(701, plain("float8"))]);
        assert_eq!(Sent::between(13, 18).comparable("c", 701, &types), "c");
        assert_eq!(Sent::between(10, 11).comparable("c", 701, &types), "c");
        assert!(Sent::between(10, 18).comparable("c", 701, &types).contains("float8send(c)"));
    }

    #[test]
    fn types_are_taken_apart_only_where_something_in_them_needs_it() {
        let array = |element| Type { shape: Shape::Array { element }, ..plain("_x") };
        let fields = vec![("a".to_owned(), 23), ("b \"".to_owned(), 1022)];
        let composite = Type { shape: Shape::Composite { fields }, ..plain("pair") };
        let types = Types::of([
            (701, plain("float8")),
            (23, plain("int4")),
            (1022, array(701)),
            (1007, array(23)),
            (9, composite),
        ]);
        let sent = Sent::between(10, 15);
        assert_eq!(sent.comparable("c", 1007, &types), "c");
        let text = sent.comparable("c", 9, &types);
        assert!(text.contains("ROW((c).\"a\", "), "{text}");
        assert!(text.contains("unnest((c).\"b \"\"\")"), "{text}");
    }

    #[test]
    fn conversions_follow_the_way_of_the_text() {
        let of = |s: &str, sm, t: &str, tm| Conversion::between((&plain(s), sm), (&plain(t), tm), "T");
        let to = Conversion::ToTarget { r#type: "T".into() };
        assert_eq!(of("int4", -1, "int4", -1), Conversion::None);
        assert_eq!(of("int4", -1, "int8", -1), to);
        assert_eq!(of("numeric", 5, "numeric", 9), to);
        assert_eq!(of("numeric", 5, "numeric", -1), Conversion::None);
        assert_eq!(of("text", -1, "varchar", 7), Conversion::None);
        assert_eq!(of("varchar", 9, "varchar", 7), Conversion::None);
        assert_eq!(of("text", -1, "bpchar", 9), Conversion::Trimmed);
        assert_eq!(of("json", -1, "jsonb", -1), to);
        assert_eq!(of("_int4", -1, "_int8", -1), to);
    }
}
