"""What a release consists of beside the images and the chart."""
