"""The object store in a bucket: any server that speaks S3.

`settings` reads the private file with endpoint and keys, `store` is the adapter, `errors` what a server's answers
mean, `seat` the place of the record of who holds the bucket's repository.
"""
