"""Every expression of the five systems' documents, against real Prometheus servers that scrape us."""
