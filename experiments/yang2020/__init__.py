"""Whole fetal heads in ultrasound volumes: the tables and figures of yang2020has."""
