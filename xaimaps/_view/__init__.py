"""The viewer: a page in the browser that shows a model's maps, served by this machine to itself."""
