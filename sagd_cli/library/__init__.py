"""What `import sagd_cli` hands out that takes several rooms: noise, trained runs and restored images in a few words."""
