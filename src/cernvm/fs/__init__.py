"""CernVM-FS: signed, content-addressed software delivery over HTTP."""
