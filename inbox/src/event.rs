//! A message as the handler's own type.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Error;
use serde_json::value::RawValue;

use crate::message::Message;

/// What became of it.
#[derive(Debug)]
pub(crate) enum Typed<T> {
    Event(T),
    /// An enum without a variant of that name.
    Unknown,
}

/// An enum takes its variant from the event's type and that variant's content from the payload; any other type is the payload alone.
///
/// # Errors
/// The payload is not what the type asks for.
pub(crate) fn typed<T: DeserializeOwned>(message: &Message) -> Result<Typed<T>, Error> {
    let payload = message.payload.as_deref().map_or("null", RawValue::get);
    let mut unknown = false;
    let tagged = Tagged { event_type: message.event_type.as_deref(), payload, unknown: &mut unknown };
    match T::deserialize(tagged) {
        Ok(event) => Ok(Typed::Event(event)),
        Err(_) if unknown => Ok(Typed::Unknown),
        Err(error) => Err(error),
    }
}

struct Tagged<'a> {
    event_type: Option<&'a str>,
    payload: &'a str,
    unknown: &'a mut bool,
}

impl<'de> Deserializer<'de> for Tagged<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.payload).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.payload).deserialize_option(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.payload).deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // Without a type the payload itself may say which variant it is, in serde's own form.
        let Some(event_type) = self.event_type else {
            return serde_json::Deserializer::from_str(self.payload)
                .deserialize_enum(name, variants, visitor);
        };
        if !variants.contains(&event_type) {
            *self.unknown = true;
        }
        visitor.visit_enum(Variant { event_type, payload: self.payload })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Variant<'a> {
    event_type: &'a str,
    payload: &'a str,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Content<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'de>), Error> {
        let name: StrDeserializer<'_, Error> = self.event_type.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.payload)))
    }
}

struct Content<'a>(&'a str);

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Error;

    /// A variant without content takes any payload.
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut serde_json::Deserializer::from_str(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.0).deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.0).deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Placed {
        id: i64,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    enum Event {
        OrderPlaced(Placed),
        #[serde(rename = "order.cancelled")]
        Cancelled {
            id: i64,
            why: Option<String>,
        },
        Ping,
        Pair(i64, i64),
    }

    fn message(event_type: Option<&str>, payload: Option<&str>) -> Message {
        Message {
            topic: "t".to_owned(),
            partition: 0,
            offset: 0,
            id: "1".to_owned(),
            event_type: event_type.map(str::to_owned),
            key: None,
            payload: payload.map(|json| RawValue::from_string(json.to_owned()).unwrap()),
            headers: BTreeMap::new(),
            timestamp: None,
        }
    }

    fn read<T: DeserializeOwned>(event_type: Option<&str>, payload: &str) -> Option<T> {
        match typed(&message(event_type, Some(payload))) {
            Ok(Typed::Event(event)) => Some(event),
            Ok(Typed::Unknown) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_type_chooses_the_variant() {
        assert_eq!(
            read(Some("OrderPlaced"), r#"{"id":7,"more":1}"#),
            Some(Event::OrderPlaced(Placed { id: 7 }))
        );
        let cancelled = Event::Cancelled { id: 7, why: None };
        assert_eq!(read(Some("order.cancelled"), r#"{"id":7}"#), Some(cancelled));
        assert_eq!(read(Some("Ping"), r#"{"any":"thing"}"#), Some(Event::Ping));
        assert_eq!(read(Some("Pair"), "[1,2]"), Some(Event::Pair(1, 2)));
        assert_eq!(read::<Event>(Some("Shipped"), "{}"), None, "a type that nobody knows is no error");
        assert_eq!(read(None, r#"{"OrderPlaced":{"id":7}}"#), Some(Event::OrderPlaced(Placed { id: 7 })));
    }

    #[test]
    fn other_types_are_the_payload() {
        assert_eq!(read(Some("whatever"), r#"{"id":7}"#), Some(Placed { id: 7 }));
        assert_eq!(read::<serde_json::Value>(None, "[1]"), Some(serde_json::json!([1])));
        let none: Typed<Option<Placed>> = typed(&message(None, None)).unwrap();
        assert!(matches!(none, Typed::Event(None)), "a tombstone");
    }

    #[test]
    fn a_payload_of_another_shape_is_an_error() {
        assert!(typed::<Event>(&message(Some("OrderPlaced"), Some(r#"{"id":"seven"}"#))).is_err());
        assert!(typed::<Event>(&message(Some("OrderPlaced"), None)).is_err());
    }
}
