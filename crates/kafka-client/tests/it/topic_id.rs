//! A topic's id tells its lives apart.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use kafka_client::ClientSettings;
use kafka_client::admin::{Admin, TopicSpec};
use testkit::{TestTopics, eventually};

#[tokio::test]
async fn a_topic_that_is_created_again_has_another_id() -> Result<()> {
    let topics = TestTopics::new()?;
    let admin = Admin::new(&ClientSettings::new(topics.brokers(), "test"))?;
    let (name, other) = (topics.name("lives"), topics.name("other"));
    let spec = |name: &str| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        replication: 1,
        config: BTreeMap::new(),
    };
    admin.create_topics(&[spec(&name), spec(&other)]).await?;
    let first = admin.topic_ids(&[&name, &other]).await?;
    assert_eq!(first.keys().collect::<Vec<_>>(), [&name, &other]);
    assert_ne!(first[&name], first[&other]);
    assert_ne!(first[&name].to_bytes(), [0; 16]);
    assert_eq!(admin.topic_ids(&[&other, &name]).await?, first, "the same answer while it lives");

    admin.delete_topics(&[&name]).await?;
    eventually("deleted topic is gone", async || {
        let known = admin.topic_ids(&[&name, &other]).await?;
        Ok((known.keys().collect::<Vec<_>>() == [&other]).then_some(()))
    })
    .await?;
    admin.create_topics(&[spec(&name)]).await?;
    let second = admin.topic_ids(&[&name]).await?;
    let second = second.get(&name).context("the second life is known")?;
    assert_ne!(*second, first[&name]);
    assert!(admin.topic_ids(&[]).await?.is_empty());
    assert!(admin.topic_ids(&["a\0b"]).await.is_err());
    admin.delete_topics(&[&name, &other]).await?;
    Ok(())
}
