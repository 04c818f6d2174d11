//! What a packager promises, over streams of many kinds.
