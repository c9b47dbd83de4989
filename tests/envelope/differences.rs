//! Where we differ from Debezium on purpose (WIRE: "Where Debezium loses data we do better"), one by one. Each must be found in the
//! captured events, or the list is out of date.

use super::golden::Record;

/// In events of `topic`, `theirs` is what Debezium wrote and `ours` what we write.
pub struct Difference {
    pub reason: &'static str,
    pub topic: &'static str,
    pub theirs: &'static str,
    pub ours: &'static str,
}

const fn of(
    reason: &'static str,
    topic: &'static str,
    theirs: &'static str,
    ours: &'static str,
) -> Difference {
    Difference { reason, topic, theirs, ours }
}

const NULLS: &str = "NULL where the column has a default is null, not the default";
const DELETE: &str = "a delete shows the key it has: the other columns' values are not known";
const INFINITE: &str = "an infinite date or ISO timestamp is text, not a day that it is not";
const DIMENSIONS: &str = "arrays of several dimensions are kept";
const BC: &str = "years before Christ are kept";
const DROPPED: &str = "a type that Debezium drops (or sends as the bytes of its driver's text) is its text";

pub const DEFAULT: &[Difference] = &[
    of(
        NULLS,
        "t_def",
        r#""id":3,"a":5,"b":"dflt","c":"z","d":"AJY=","e":_"#,
        r#""id":3,"a":null,"b":null,"c":"z","d":"AJY=","e":null"#,
    ),
    of(
        DELETE,
        "t_nn",
        r#"{"before":{"id":1,"a":0,"t":"","n":"AA==","ts":"1970-01-01T00:00:00Z","u":"","b":false}"#,
        r#"{"before":{"id":1}"#,
    ),
    of(
        DELETE,
        "t_toast",
        r#"{"before":{"id":1,"a":null,"big":null,"bigj":null,"bigb":null,"biga":null}"#,
        r#"{"before":{"id":1}"#,
    ),
    of(
        DELETE,
        "t_toast",
        r#"{"before":{"id":7,"a":null,"big":null,"bigj":null,"bigb":null,"biga":null}"#,
        r#"{"before":{"id":7}"#,
    ),
    of(DELETE, "t_part_1", r#"{"before":{"id":1,"k":1,"v":null}"#, r#"{"before":{"id":1,"k":1}"#),
    of(DELETE, "t_part_2", r#"{"before":{"id":2,"k":11,"v":null}"#, r#"{"before":{"id":2,"k":11}"#),
    of(INFINITE, "t_time", r#""d_inf":-622191234"#, r#""d_inf":"infinity""#),
    of(INFINITE, "t_time", r#""d_inf":-625821272"#, r#""d_inf":"-infinity""#),
    of(INFINITE, "t_arr", "[17109,-622191234]", r#"[17109,"infinity"]"#),
    of(BC, "t_time", r#""d_bc":-703383"#, r#""d_bc":-735160"#),
    of(DIMENSIONS, "t_arr", r#""i2d":[null,null]"#, r#""i2d":[[1,2],[3,4]]"#),
    of(
        DROPPED,
        "t_net",
        r#""srid":null}},"source""#,
        r#""srid":null},"bx":"(3,4),(1,2)","ls":"[(1,2),(3,4)]","pa":"[(1,2),(3,4),(5,6)]","po":"((0,0),(0,1),(1,1))","ci":"<(1,2),3>","li":"{1,2,3}","pl":"16/B374D848"},"source""#,
    ),
    of(
        DROPPED,
        "t_net",
        r#""p":null},"source""#,
        r#""p":null,"bx":null,"ls":null,"pa":null,"po":null,"ci":null,"li":null,"pl":null},"source""#,
    ),
    of(DROPPED, "t_rng", r#""em":"empty"}"#, r#""em":"empty","i4m":"{[1,3),[5,7)}"}"#),
    of(
        DROPPED,
        "t_str",
        r#""e":"ok","tsv":"'a' 'cat' 'fat'","q""#,
        r#""e":"ok","cmp":"(1,x)","tsv":"'a' 'cat' 'fat'","tsq":"'fat' & 'rat'","q""#,
    ),
    of(DROPPED, "t_str", r#""e":"sad","tsv":"","q""#, r#""e":"sad","cmp":null,"tsv":"","tsq":"","q""#),
    of(DROPPED, "t_str", r#""e":null,"tsv":null,"q""#, r#""e":null,"cmp":null,"tsv":null,"tsq":null,"q""#),
    of(
        DROPPED,
        "t_str",
        r#""e":"ecstatic","tsv":null,"q""#,
        r#""e":"ecstatic","cmp":null,"tsv":null,"tsq":null,"q""#,
    ),
];

pub const STRINGS: &[Difference] = &[
    of(
        NULLS,
        "t_def",
        r#""id":3,"a":5,"b":"dflt","c":"z","d":"1.50","e":_"#,
        r#""id":3,"a":null,"b":null,"c":"z","d":"1.50","e":null"#,
    ),
    of(
        DELETE,
        "t_nn",
        r#"{"before":{"id":1,"a":0,"t":"","n":"0.00","ts":"1970-01-01T00:00:00Z","u":"","b":false}"#,
        r#"{"before":{"id":1}"#,
    ),
    of(
        DELETE,
        "t_toast",
        r#"{"before":{"id":1,"a":null,"big":null,"bigj":null,"bigb":null,"biga":null}"#,
        r#"{"before":{"id":1}"#,
    ),
    of(
        DELETE,
        "t_toast",
        r#"{"before":{"id":7,"a":null,"big":null,"bigj":null,"bigb":null,"biga":null}"#,
        r#"{"before":{"id":7}"#,
    ),
    of(DELETE, "t_part", r#"{"before":{"id":1,"k":1,"v":null}"#, r#"{"before":{"id":1,"k":1}"#),
    of(DELETE, "t_part", r#"{"before":{"id":2,"k":11,"v":null}"#, r#"{"before":{"id":2,"k":11}"#),
    of(INFINITE, "t_time", r#""d_inf":"+292278994-08-16Z""#, r#""d_inf":"infinity""#),
    of(INFINITE, "t_time", r#""d_inf":"+292269055-12-02Z""#, r#""d_inf":"-infinity""#),
    of(INFINITE, "t_arr", r#""+292278994-08-16Z""#, r#""infinity""#),
    of(INFINITE, "t_time", r#""ts_inf":"+294247-01-10T04:00:25.2Z""#, r#""ts_inf":"infinity""#),
    of(INFINITE, "t_time", r#""ts_ninf":"-290308-12-21T19:59:27.6Z""#, r#""ts_ninf":"-infinity""#),
    of(BC, "t_time", r#""d_bc":"0044-03-15Z""#, r#""d_bc":"-0043-03-15Z""#),
    of("the end of a day is not its beginning", "t_time", r#""t24":"00:00:00Z""#, r#""t24":"24:00:00Z""#),
    of(DIMENSIONS, "t_arr", r#""i2d":[null,null]"#, r#""i2d":[[1,2],[3,4]]"#),
    of(DROPPED, "t_net", r#""28332e302c342e30292c28312e302c322e3029""#, r#""(3,4),(1,2)""#),
    of(DROPPED, "t_net", r#""5b28312e302c322e30292c28332e302c342e30295d""#, r#""[(1,2),(3,4)]""#),
    of(
        DROPPED,
        "t_net",
        r#""5b28312e302c322e30292c28332e302c342e30292c28352e302c362e30295d""#,
        r#""[(1,2),(3,4),(5,6)]""#,
    ),
    of(
        DROPPED,
        "t_net",
        r#""2828302e302c302e30292c28302e302c312e30292c28312e302c312e302929""#,
        r#""((0,0),(0,1),(1,1))""#,
    ),
    of(DROPPED, "t_net", r#""3c28312e302c322e30292c332e303e""#, r#""<(1,2),3>""#),
    of(DROPPED, "t_net", r#""7b312e302c322e302c332e307d""#, r#""{1,2,3}""#),
    of(DROPPED, "t_net", r#""31362f4233373444383438""#, r#""16/B374D848""#),
    of(DROPPED, "t_rng", r#""7b5b312c33292c5b352c37297d""#, r#""{[1,3),[5,7)}""#),
    of(DROPPED, "t_str", r#""28312c7829""#, r#""(1,x)""#),
    of(DROPPED, "t_str", r#""27666174272026202772617427""#, r#""'fat' & 'rat'""#),
];

/// Makes of Debezium's events what ours must be.
pub fn apply(records: &mut Vec<Record>, differences: &[Difference], via_root: bool) {
    for difference in differences {
        let topic = format!("srv.public.{}", difference.topic);
        let mut found = false;
        for record in records.iter_mut().filter(|record| record.topic == topic) {
            if record.value.contains(difference.theirs) {
                record.value = record.value.replace(difference.theirs, difference.ours);
                found = true;
            }
        }
        assert!(found, "{}: no event of {topic} has {}", difference.reason, difference.theirs);
    }
    // Each row of a partitioned table once: Debezium's snapshot has those of t_part as the root's and as the leaves' too.
    let name = if via_root { "srv.public.t_part_" } else { "srv.public.t_part" };
    records.retain(|record| record.topic != name && !(via_root && record.topic.starts_with(name)));
    // Messages are counted under a name, not under a Java object's address.
    for record in records.iter_mut().filter(|record| record.value.contains("LogicalDecodingMessageId@")) {
        let from = record.value.find("io.debezium").unwrap();
        let to = from + record.value[from..].find('"').unwrap();
        record.value.replace_range(from..to, "message");
    }
}
