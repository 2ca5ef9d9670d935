//! What operators see of dead letters: exact comparisons, causes, depth.

use anyhow::{Context, Result};
use inbox::dead_letter::{self, LetterFilter, LetterStatus};
use sqlx::PgConnection;

use crate::fixture::{Fixture, Record};

/// Texts that a careless statement would take for something else.
const HOSTILE: [&str; 7] = ["'; drop table inbox.dead_letter; --", "%", "_", "100%", "\\", "\"$1\"", "{a,b}"];

/// Letters that are nothing but their texts.
async fn insert_letters(connection: &mut PgConnection, texts: &[String]) -> Result<()> {
    for (offset, text) in (0_i64..).zip(texts) {
        sqlx::query(
            r#"insert into inbox.dead_letter
                   (id, consumer_group, topic, partition, "offset", key, headers, event_type, reason, fingerprint, error)
               values (gen_random_uuid(), $1, $1, 0, $2, convert_to($1, 'utf8'), '[]', $1, $1, $1, $1)"#,
        )
        .bind(text)
        .bind(offset)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Each way to ask for letters with this text.
fn filters(text: &str) -> Vec<LetterFilter> {
    let text = text.to_owned();
    let filter = LetterFilter::default();
    vec![
        LetterFilter { groups: vec![text.clone()], ..filter.clone() },
        LetterFilter { topics: vec![text.clone()], ..filter.clone() },
        LetterFilter { event_type: Some(text.clone()), ..filter.clone() },
        LetterFilter { reason: Some(text.clone()), ..filter.clone() },
        LetterFilter { fingerprint: Some(text.clone()), ..filter.clone() },
        LetterFilter { key: Some(text.into_bytes()), ..filter },
    ]
}

#[tokio::test]
async fn any_text_is_only_compared() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let mut connection = fixture.database.connect().await?;
    let mut texts: Vec<String> = HOSTILE.map(str::to_owned).to_vec();
    // The database's longest index entry bounds what a stored topic can be, not what can be asked for.
    texts.push("ü".repeat(500));
    insert_letters(&mut connection, &texts).await?;
    for text in &texts {
        for filter in filters(text) {
            let found = dead_letter::list_letters(&mut connection, &filter, 10).await?;
            let errors: Vec<&str> = found.iter().map(|letter| letter.error.as_str()).collect();
            assert_eq!(errors, [text.as_str()], "{filter:?}");
            assert_eq!(dead_letter::count_letters(&mut connection, &filter).await?, 1);
        }
    }
    for text in ["NUL \0", &"x".repeat(3_000_000), "", "1' or '1'='1"] {
        for filter in filters(text) {
            assert_eq!(dead_letter::count_letters(&mut connection, &filter).await?, 0);
        }
    }
    fixture.remove().await
}

#[tokio::test]
async fn each_condition_narrows_what_is_found() -> Result<()> {
    let fixture = Fixture::new(2).await?;
    fixture.produce(&[Record::event(0, 0, "bad a"), Record::event(1, 1, "bad b")]).await?;
    let running = fixture.start();
    fixture.passed(2).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    let all = dead_letter::list_letters(&mut connection, &LetterFilter::default(), 10).await?;
    let (newest, oldest) = (&all[0], &all[1]);
    let base = LetterFilter {
        groups: vec![fixture.group(), "another".to_owned()],
        topics: vec![fixture.topic.clone()],
        event_type: Some("Counted".to_owned()),
        reason: Some("malformed".to_owned()),
        fingerprint: Some(newest.fingerprint.clone()),
        key: Some(b"key".to_vec()),
        since: Some(oldest.first_seen),
        ..LetterFilter::default()
    };
    let narrowed = [
        (base.clone(), 2),
        (LetterFilter { ids: vec![oldest.id], ..base.clone() }, 1),
        (LetterFilter { since: Some(newest.first_seen), ..base.clone() }, 1),
        (LetterFilter { until: Some(newest.first_seen), ..base.clone() }, 1),
        (LetterFilter { until: Some(oldest.first_seen), ..base.clone() }, 0),
        (LetterFilter { statuses: vec![LetterStatus::Discarded], ..base.clone() }, 0),
        (LetterFilter { key: Some(b"ke".to_vec()), ..base.clone() }, 0),
        (LetterFilter { groups: vec!["another".to_owned()], ..base.clone() }, 0),
        (LetterFilter { topics: vec!["another".to_owned()], ..base.clone() }, 0),
        (LetterFilter { event_type: Some("counted".to_owned()), ..base.clone() }, 0),
        (LetterFilter { reason: Some("other".to_owned()), ..base.clone() }, 0),
        (LetterFilter { fingerprint: Some("other".to_owned()), ..base }, 0),
    ];
    for (filter, expected) in narrowed {
        assert_eq!(dead_letter::count_letters(&mut connection, &filter).await?, expected, "{filter:?}");
    }
    fixture.remove().await
}

#[tokio::test]
async fn causes_are_counted_with_their_newest_letter() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let records = [
        Record::event(0, 0, "bad 1"),
        Record::event(0, 1, "forbidden"),
        Record::event(0, 2, "bad 2"),
        Record::event(0, 3, "bad 3"),
    ];
    fixture.produce(&records).await?;
    let running = fixture.start();
    fixture.passed(4).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    let groups = dead_letter::group_letters(&mut connection, &LetterFilter::default(), 10).await?;
    let told: Vec<(i64, i64, &str)> =
        groups.iter().map(|group| (group.letters, group.open, group.reason.as_str())).collect();
    assert_eq!(told, [(3, 3, "malformed"), (1, 1, "constraint")]);
    assert!(groups[0].sample_error.contains("bad 3"), "{}", groups[0].sample_error);
    assert_eq!(
        (&groups[0].topics, &groups[0].consumer_groups),
        (&vec![fixture.topic.clone()], &vec![fixture.group()])
    );
    let one = dead_letter::group_letters(&mut connection, &LetterFilter::default(), 1).await?;
    assert_eq!(one, groups[..1]);
    let depths = dead_letter::letter_depths(&mut connection, &[fixture.group()]).await?;
    assert_eq!(
        depths.iter().map(|depth| (depth.status, depth.letters)).collect::<Vec<_>>(),
        [(LetterStatus::New, 4)]
    );
    fixture.remove().await
}

#[tokio::test]
async fn whole_letters_come_page_by_page_with_the_bytes_of_their_record() -> Result<()> {
    let fixture = Fixture::new(1).await?;
    let poison = |sequence| {
        Record::event(0, sequence, &format!("bad {sequence}")).with("binary", b"\xff\0").with("ce_id", b"1")
    };
    fixture.produce(&[poison(0), poison(1), poison(2)]).await?;
    let running = fixture.start();
    fixture.passed(3).await?;
    running.stop().await?;
    let mut connection = fixture.database.connect().await?;
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let filter = LetterFilter::default();
        let page = dead_letter::list_whole_letters(&mut connection, &filter, cursor.as_ref(), 2).await?;
        let Some(last) = page.last() else { break };
        cursor = Some(last.letter.place.clone());
        seen.extend(page);
    }
    let values: Vec<&[u8]> = seen.iter().filter_map(|whole| whole.content.value.as_deref()).collect();
    assert_eq!(values, [b"bad 0", b"bad 1", b"bad 2"]);
    let headers = seen[0].content.headers();
    let (_, binary) = headers.iter().find(|(name, _)| name == "binary").context("no header")?;
    assert_eq!(binary.as_deref(), Some(&b"\xff\0"[..]));
    fixture.remove().await
}
