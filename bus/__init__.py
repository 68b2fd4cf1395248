"""Events, the append-only log, publish and subscribe, tailing. Imports nothing else of orch."""
