//! `bindery demo`: being written.
pub fn demo(_once: bool) -> anyhow::Result<()> {
    Ok(())
}
